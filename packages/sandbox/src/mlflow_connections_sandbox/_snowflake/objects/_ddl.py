"""Execute CREATE, ALTER and DROP, and check the clauses of an object."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlflow_connections_sandbox._snowflake._assumptions import Assumptions
from mlflow_connections_sandbox._snowflake._errors import (
    SqlError,
    compilation,
    does_not_exist,
    dotted,
    insufficient,
    invalid_property,
    invalid_value,
    missing_options,
    unsupported,
)
from mlflow_connections_sandbox._snowflake._results import Rows, status
from mlflow_connections_sandbox._snowflake._session import SqlSession
from mlflow_connections_sandbox._snowflake.external._clouds import add_identity, check_integration
from mlflow_connections_sandbox._snowflake.external._external_functions import is_allowed
from mlflow_connections_sandbox._snowflake.external._javascript import compile_javascript
from mlflow_connections_sandbox._snowflake.procedures._packages import check_packages, repository
from mlflow_connections_sandbox._snowflake.procedures._workers import warm_up
from mlflow_connections_sandbox._snowflake.sql._clauses import KINDS
from mlflow_connections_sandbox._snowflake.sql._file_commands import parse_stage
from mlflow_connections_sandbox._snowflake.sql._statements import Alter, Create, Drop, Target
from mlflow_connections_sandbox._snowflake.tasks._tasks import TaskRules

from ._catalog import Catalog, CatalogEntry, Key
from ._privileges import ACCOUNT_KEY, Privileges
from ._stages import Stages

if TYPE_CHECKING:
    from collections.abc import Callable


_JAVASCRIPT_REFUSED = ("NUMBER",)
_HOST = re.compile(r"[A-Za-z0-9.*-]+")
_HEADER_REFUSED = frozenset('()<>@,;:\\"/[]?={}_ \t')


class Checks:
    """Checks objects that are about to be created or changed.

    Attributes:
        tasks: The rules for tasks.
    """

    def __init__(
        self, catalog: Catalog, access: Privileges, stages: Stages, assumptions: Assumptions
    ) -> None:
        self._catalog = catalog
        self._access = access
        self._stages = stages
        self._assumptions = assumptions
        self.tasks = TaskRules(catalog, access)

    def check(self, entry: CatalogEntry, session: SqlSession) -> None:
        """Check the clauses of an object, and complete the names in them.

        Raises:
            SqlError: A clause has an invalid value, or names an object that may not be used.
        """
        checks: dict[str, Callable[[CatalogEntry, SqlSession], None]] = {
            "API INTEGRATION": self._check_integration,
            "STORAGE INTEGRATION": self._check_integration,
            "EXTERNAL ACCESS INTEGRATION": self._check_external_access,
            "EXTERNAL FUNCTION": self._check_external_function,
            "FUNCTION": self._check_function,
            "PROCEDURE": self._check_procedure,
            "STAGE": lambda e, s: self._stages.check(e.properties, s),
            "TASK": self.tasks.check,
            "SECRET": self._check_secret,
            "NETWORK RULE": _check_rule,
        }
        check = checks.get(entry.kind)
        if check is not None:
            check(entry, session)

    def _check_integration(self, entry: CatalogEntry, _: SqlSession) -> None:
        check_integration(entry.kind, entry.properties)

    def _check_external_function(self, entry: CatalogEntry, session: SqlSession) -> None:
        properties = entry.properties
        integration = self._access.require(
            session, "USAGE", ("INTEGRATION", properties["API_INTEGRATION"], None)
        )
        if integration.kind != "API INTEGRATION":
            raise does_not_exist("INTEGRATION", integration.name)
        if not integration.properties["ENABLED"]:
            raise compilation(f"API integration '{dotted(integration.name)}' is not enabled.", 3001)
        if not is_allowed(properties["AS"], integration.properties):
            raise compilation(
                f"URL '{properties['AS']}' is not one of the allowed prefixes of API integration "
                f"'{dotted(integration.name)}'.",
                1008,
            )
        if properties.get("COMPRESSION", "AUTO") not in {"NONE", "AUTO", "GZIP", "DEFLATE"}:
            raise invalid_value(properties["COMPRESSION"], "COMPRESSION")
        for header in properties.get("HEADERS", {}):
            if not header or any(c in _HEADER_REFUSED for c in header):
                raise invalid_value(header, "HEADERS", "a header's name has no such characters")
        entry.properties = resolved(entry)
        for clause in ("REQUEST_TRANSLATOR", "RESPONSE_TRANSLATOR"):
            if clause in entry.properties:
                self._check_translator(entry.properties[clause], session)

    def _check_translator(self, name: tuple[str, ...], session: SqlSession) -> None:
        found = self._access.require(session, "USAGE", ("FUNCTION", name, ("OBJECT",)))
        if found.kind != "FUNCTION" or str(found.returns) != "OBJECT":
            raise compilation(
                f"Translator '{dotted(name)}' is no JavaScript function of an OBJECT to an OBJECT.",
                1044,
            )

    def _check_function(self, entry: CatalogEntry, _: SqlSession) -> None:
        language = entry.properties["LANGUAGE"]
        if language != "JAVASCRIPT":
            raise unsupported(f"CREATE FUNCTION LANGUAGE {language}")
        for sql_type in (*(p.type for p in entry.parameters), entry.returns):
            if str(sql_type) in _JAVASCRIPT_REFUSED:
                raise compilation(
                    f"Language JAVASCRIPT does not support type '{getattr(sql_type, 'shown', '')}' "
                    "for argument or return type.",
                    2108,
                )
        names = [p.name for p in entry.parameters]
        compile_javascript(entry.properties["AS"], names, dotted(entry.name))

    def _check_procedure(self, entry: CatalogEntry, session: SqlSession) -> None:
        properties = entry.properties
        if properties["LANGUAGE"] != "PYTHON":
            raise unsupported(f"CREATE PROCEDURE LANGUAGE {properties['LANGUAGE']}")
        if not self._access.has_warehouse(session):
            text = "An active warehouse is required for creating Python stored procedures."
            raise compilation(text, 391531, "42601")
        if "AS" not in properties and "IMPORTS" not in properties:
            raise missing_options(["AS"])
        if not any(p.startswith("snowflake-snowpark-python") for p in properties["PACKAGES"]):
            raise invalid_value(
                properties["PACKAGES"], "PACKAGES", "snowflake-snowpark-python is missing"
            )
        source = repository(
            properties.get("ARTIFACT_REPOSITORY"),
            properties["RUNTIME_VERSION"],
            self._assumptions.default_repository,
        )
        self._access.require_repository(session.role, source)
        properties["ARTIFACT_REPOSITORY"] = source
        check_packages(properties["RUNTIME_VERSION"], properties["PACKAGES"], source)
        warm_up()
        for reference in properties.get("IMPORTS", ()):
            self._stages.file(parse_stage(reference), session)
        granted: set[tuple[str, ...]] = set()
        for name in properties.get("EXTERNAL_ACCESS_INTEGRATIONS", ()):
            integration = self._access.require(session, "USAGE", ("INTEGRATION", name, None))
            if integration.kind != "EXTERNAL ACCESS INTEGRATION":
                raise does_not_exist("INTEGRATION", name)
            secrets = integration.properties.get("ALLOWED_AUTHENTICATION_SECRETS", ())
            granted |= set(secrets if isinstance(secrets, list) else ())
        for variable, name in properties.get("SECRETS", {}).items():
            key = self._catalog.key(Target("SECRET", name), session)
            self._access.require(session, "READ", key)
            if key[1] not in granted:
                raise compilation(
                    f"Secret '{dotted(name)}' is in no integration's allowed secrets."
                )
            properties["SECRETS"][variable] = key[1]

    def _check_secret(self, entry: CatalogEntry, session: SqlSession) -> None:
        _check_secret(entry)
        name = entry.properties.get("API_AUTHENTICATION")
        if name is not None:
            key: Key = ("INTEGRATION", name, None)
            if self._access.require(session, "USAGE", key).kind != "SECURITY INTEGRATION":
                raise does_not_exist("INTEGRATION", name)

    def _check_external_access(self, entry: CatalogEntry, session: SqlSession) -> None:
        if self._assumptions.trial:
            raise SqlError(
                509009,
                "0A000",
                "External access is not supported for trial accounts by default. Contact your "
                "account representative for more information.",
            )
        properties = entry.properties
        for clause, domain in (
            ("ALLOWED_NETWORK_RULES", "NETWORK RULE"),
            ("ALLOWED_AUTHENTICATION_SECRETS", "SECRET"),
        ):
            names = properties.get(clause, ())
            if isinstance(names, str):
                if names not in {"ALL", "NONE"}:
                    raise invalid_value(names, clause)
                continue
            keys = [self._catalog.key(Target(domain, name), session) for name in names]
            for key in keys:
                self._access.see(session, key)
            properties[clause] = [key[1] for key in keys]


def resolved(entry: CatalogEntry) -> dict[str, Any]:
    """Return the properties with full names of translators, which default to the function's schema."""
    found = dict(entry.properties)
    for clause in ("REQUEST_TRANSLATOR", "RESPONSE_TRANSLATOR"):
        if clause in found:
            name = found[clause]
            found[clause] = (*entry.name[: 3 - len(name)], *name)
    return found


_SECRETS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "GENERIC_STRING": (frozenset(("SECRET_STRING",)), frozenset()),
    "PASSWORD": (frozenset(("USERNAME", "PASSWORD")), frozenset()),
    "OAUTH2": (
        frozenset(("API_AUTHENTICATION",)),
        frozenset(("OAUTH_SCOPES", "OAUTH_REFRESH_TOKEN", "OAUTH_REFRESH_TOKEN_EXPIRY_TIME")),
    ),
}
"""The clauses that each type of secret requires, and those that it allows."""


def _check_secret(entry: CatalogEntry) -> None:
    kind = entry.properties["TYPE"]
    if kind not in _SECRETS:
        raise unsupported(f"CREATE SECRET TYPE = {kind}")
    needed, possible = _SECRETS[kind]
    found = entry.properties.keys() - {"TYPE", "COMMENT"}
    if needed - found:
        raise missing_options(sorted(needed - found))
    for name in sorted(found - needed - possible):
        raise invalid_property(name, "SECRET")
    for name in ("USERNAME", "PASSWORD"):
        if ":" in entry.properties.get(name, ""):
            raise invalid_value("******", name, "external access allows no colon in it")


def _check_rule(entry: CatalogEntry, _: SqlSession) -> None:
    properties = entry.properties
    if (properties["TYPE"], properties["MODE"]) != ("HOST_PORT", "EGRESS"):
        raise unsupported(f"NETWORK RULE of {properties['TYPE']} and {properties['MODE']}")
    for value in properties["VALUE_LIST"]:
        host, _, port = value.partition(":")
        if not _HOST.fullmatch(host) or (port and not (port.isdecimal() and 0 < int(port) < 65536)):
            raise invalid_value(value, "VALUE_LIST", "it is no host or host:port")
        labels = host.split(".")
        if host.count("*") > 1 or "*" in "".join(labels[-2:]):
            raise invalid_value(
                value, "VALUE_LIST", "one * is allowed, and not in the second-level domain"
            )


_SHOWN = {"STAGE": "Stage area"}


class Objects:
    """Executes the statements that create, change and drop objects."""

    def __init__(
        self, catalog: Catalog, access: Privileges, stages: Stages, checks: Checks
    ) -> None:
        self._catalog = catalog
        self._access = access
        self._stages = stages
        self._checks = checks

    def create(self, statement: Create, session: SqlSession) -> Rows:
        """Create an object.

        Raises:
            SqlError: The session may not do this, or a clause is invalid.
        """
        key = self._catalog.key(statement.target, session)
        self._may_create(statement.kind, key, session)
        there = self._catalog.find(key)
        name = dotted(key[1][-1:])
        if there is not None:
            if statement.if_not_exists:
                return status(f"{name} already exists, statement succeeded.")
            if statement.replace:
                self._access.own(session, key)
        entry = CatalogEntry(
            statement.kind,
            key,
            session.role,
            statement.parameters,
            statement.returns,
            dict(statement.properties),
        )
        self._checks.check(entry, session)
        if statement.target.domain == "INTEGRATION":
            add_identity(statement.kind, entry.properties)
        self._catalog.add(entry, replace=statement.replace)
        if there is not None:
            # Grants on a replaced object are lost.
            self._access.forget(key)
            if statement.kind == "STAGE":
                self._stages.clear(there)
        if statement.kind == "ROLE":
            self._access.roles[key[1][0]] = set()
        self._access.apply_future(entry)
        shown = _SHOWN.get(statement.kind, key[0].capitalize())
        return status(f"{shown} {name} successfully created.")

    def alter(self, statement: Alter, session: SqlSession) -> Rows:
        """Change an object's clauses.

        Raises:
            SqlError: The session may not do this, or a clause is invalid.
        """
        entry = self._existing(statement, session)
        if entry is None:
            return status("Statement executed successfully.")
        if entry.kind == "TASK" and statement.action in {"RESUME", "SUSPEND"}:
            if not self._access.holds(session.role, "OPERATE", entry.key):
                self._access.own(session, entry.key)
        else:
            self._access.own(session, entry.key)
        if entry.kind == "TASK":
            self._checks.tasks.alter(entry, statement, session)
        if statement.action in {"SET", "UNSET"}:
            self._set(entry, statement, session)
        return status("Statement executed successfully.")

    def drop(self, statement: Drop, session: SqlSession) -> Rows:
        """Drop an object.

        Raises:
            SqlError: It does not exist, or the session may not drop it.
        """
        name = dotted(statement.target.name[-1:])
        entry = self._existing(statement, session)
        if entry is None:
            return status(f"Drop statement executed successfully ({name} already dropped).")
        self._access.own(session, entry.key)
        if entry.kind == "TASK":
            self._checks.tasks.drop(entry)
        if entry.kind == "STAGE":
            self._stages.clear(entry)
        if entry.kind == "ROLE":
            self._access.drop_role(name)
        self._catalog.drop(entry.key)
        self._access.forget(entry.key)
        return status(f"{name} successfully dropped.")

    def may_create(self, kind: str, target: Target, session: SqlSession) -> Key:
        """Check that the session may create an object that fakesnow stores, and return its key.

        Raises:
            SqlError: It may not.
        """
        key = self._catalog.key(target, session)
        self._may_create(kind, key, session)
        return key

    def _may_create(self, kind: str, key: Key, session: SqlSession) -> None:
        level, privilege = KINDS[kind].level, KINDS[kind].privilege
        if level == "ACCOUNT":
            if not self._access.holds(session.role, privilege, ACCOUNT_KEY):
                raise insufficient("ACCOUNT", "SANDBOX")
            return
        self._access.enter(session, key)
        around: Key = (level, key[1][:-1], None)
        if not self._access.holds(session.role, privilege, around):
            raise insufficient(level, around[1])

    def _existing(self, statement: Alter | Drop, session: SqlSession) -> CatalogEntry | None:
        """Return the object that a statement names, or None if it is missing and IF EXISTS is given."""
        try:
            entry = self._access.see(session, self._catalog.key(statement.target, session))
            if statement.kind not in {entry.kind, entry.domain}:
                raise does_not_exist(entry.domain, entry.name)
        except SqlError as error:
            if statement.if_exists and error.number == 2003:
                return None
            raise
        return entry

    def _set(self, entry: CatalogEntry, statement: Alter, session: SqlSession) -> None:
        kind = KINDS[entry.kind]
        changed = dict(entry.properties)
        for name, value in statement.properties.items():
            if name not in kind.clauses:
                raise invalid_property(name, entry.kind)
            if statement.action == "UNSET":
                if name in kind.required:
                    raise missing_options([name])
                changed.pop(name, None)
            else:
                changed[name] = value
        self._checks.check(replace(entry, properties=changed), session)
        if entry.kind == "EXTERNAL FUNCTION":
            changed = resolved(replace(entry, properties=changed))
        entry.properties = changed
