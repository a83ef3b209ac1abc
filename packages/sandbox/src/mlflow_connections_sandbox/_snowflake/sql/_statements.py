"""The parsed statements."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow_connections_sandbox._snowflake._errors import Name

from ._types import SqlType

Properties = Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """A declared argument."""

    name: str
    type: SqlType


@dataclass(frozen=True)
class Target:
    """The object of a statement.

    Attributes:
        domain: The kind as in grants: every sort of integration is INTEGRATION.
        name: The name as written.
        signature: The argument types of a function or procedure.
    """

    domain: str
    name: Name
    signature: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Create:
    """CREATE of anything."""

    kind: str
    target: Target
    replace: bool
    if_not_exists: bool
    parameters: tuple[Parameter, ...] = ()
    returns: SqlType | None = None
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True)
class Alter:
    """ALTER: one action with its properties."""

    kind: str
    target: Target
    if_exists: bool
    action: str
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True)
class Drop:
    """DROP of anything."""

    kind: str
    target: Target
    if_exists: bool


@dataclass(frozen=True)
class Describe:
    """DESCRIBE of anything."""

    kind: str
    target: Target


@dataclass(frozen=True)
class Show:
    """SHOW: a plural with its filters."""

    plural: str
    like: str | None = None
    within: Name | None = None
    is_account: bool = False


@dataclass(frozen=True)
class ShowGrants:
    """SHOW GRANTS in its forms: ON an object, TO or OF a role, TO a user."""

    relation: str
    target: Target | None


@dataclass(frozen=True)
class Grant:
    """GRANT or REVOKE of privileges on an object, on all or on future ones."""

    revoke: bool
    privileges: tuple[str, ...]
    target: Target
    extent: str
    role: str
    grant_option: bool = False


@dataclass(frozen=True)
class GrantRole:
    """GRANT or REVOKE of a role to a role or a user."""

    revoke: bool
    role: str
    grantee_kind: str
    grantee: str


@dataclass(frozen=True)
class Use:
    """USE of a role, warehouse, database or schema."""

    kind: str
    name: Name


Statement = Create | Alter | Drop | Describe | Show | ShowGrants | Grant | GrantRole | Use
