"""External access: a procedure that may speak HTTPS to MLflow itself, where the account allows it.

Trial accounts refuse it (error 509009). The statements are the administrator's:

    CREATE OR REPLACE NETWORK RULE n MODE = EGRESS TYPE = HOST_PORT VALUE_LIST = ('host:443')
    CREATE SECRET IF NOT EXISTS n TYPE = GENERIC_STRING SECRET_STRING = ''
    CREATE EXTERNAL ACCESS INTEGRATION IF NOT EXISTS n
        ALLOWED_NETWORK_RULES = (n) ALLOWED_AUTHENTICATION_SECRETS = (n) ENABLED = TRUE
    ALTER EXTERNAL ACCESS INTEGRATION n SET …
    GRANT USAGE | READ ON INTEGRATION n | SECRET n TO ROLE r
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mlflow_connections import AccessError, InvalidOptionError, MissingOptionError

from ._names import Name, literals, name
from ._section import Section
from ._statement import ADMIN, Statement, Thing, alter, create, grant, grant_role, use_role

if TYPE_CHECKING:
    from ._setup import Setup

DEFAULT_SECRET = "mlflow_token"  # noqa: S105 - a name
"""What the procedure's clause `SECRETS = ('mlflow_token' = …)` calls MLflow's secret."""

EXTERNAL_ACCESS_KEYS = ("url", "integration", "network_rule", "secret")


@dataclass(frozen=True)
class ExternalAccess:
    """What lets a procedure reach MLflow itself.

    Attributes:
        url: MLflow's address.
        integration: The external access integration.
        network_rule: What lets the traffic out.
        secret: MLflow's token, in Snowflake's secret store.
    """

    url: str
    integration: Name
    network_rule: Name
    secret: Name

    @property
    def host_and_port(self) -> str:
        """What the network rule allows."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or 443}"


def read_external_access(
    section: Section, database: str | None, schema: str | None
) -> ExternalAccess | None:
    """Read `mlflow.external_access`; None where there is none.

    Raises:
        InvalidOptionError: Something in it cannot work.
        MissingOptionError: It has no `url`.
    """
    if section.content.get("external_access") is None:
        return None
    given = section.section("external_access")
    given.only(*EXTERNAL_ACCESS_KEYS)
    url = given.text("url")
    if not _is_address(url):
        raise given.invalid("url", f"is {url!r}, not https:// and a host's name")
    return ExternalAccess(
        url,
        name(given.text("integration", "MLFLOW_ACCESS"), given.place("integration"), 1),
        name(given.text("network_rule", "MLFLOW_EGRESS"), given.place("network_rule")).within(
            database, schema
        ),
        name(given.text("secret", "MLFLOW_TOKEN"), given.place("secret")).within(database, schema),
    )


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    plain = host.replace("-", "").replace(".", "").isalnum() and host.isascii()
    return parts.scheme == "https" and plain and port != 0 and "@" not in parts.netloc


def external_access_part(setup: "Setup") -> Iterator[Statement]:
    """Give the statements, in order, for a session that is the administrator's already."""
    access = setup.external_access
    if access is None:
        return
    rule, secret, integration = things(access)
    yield Statement(
        ADMIN,
        "what procedures may reach: MLflow, and nothing else",
        f"CREATE OR REPLACE {rule.kind} {rule.sql}\n"
        "  MODE = EGRESS\n"
        "  TYPE = HOST_PORT\n"
        f"  VALUE_LIST = {literals((access.host_and_port,))}",
        rule,
    )
    yield create(
        ADMIN,
        secret,
        "TYPE = GENERIC_STRING",
        "SECRET_STRING = ''",
        purpose="MLflow's token, empty: fill it in by ALTER SECRET … SET SECRET_STRING = '…'",
    )
    allowed = (
        f"ALLOWED_NETWORK_RULES = ({rule.sql})",
        f"ALLOWED_AUTHENTICATION_SECRETS = ({secret.sql})",
        "ENABLED = TRUE",
    )
    yield create(ADMIN, integration, *allowed, purpose="the way out for procedures that name it")
    yield alter(ADMIN, integration, *allowed)
    # A procedure's owner needs both to name them in EXTERNAL_ACCESS_INTEGRATIONS and SECRETS.
    yield grant(ADMIN, "USAGE", integration, setup.roles.owner)
    yield grant(ADMIN, "READ", secret, setup.roles.owner)


def external_access_alone(setup: "Setup") -> Iterator[Statement]:
    """Give what has to be there first, where no external functions are set up before.

    Raises:
        MissingOptionError: The setup does not say in which database and schema things lie.
    """
    if setup.database is None or setup.schema is None:
        raise MissingOptionError(
            f"{setup.where} lacks mlflow.database or mlflow.schema: without it no SQL can be "
            "written."
        )
    owner = setup.roles.owner
    schema = Thing("SCHEMA", Name((setup.database, setup.schema)))
    database = Thing("DATABASE", Name((setup.database,)))
    yield use_role(ADMIN, setup.roles.admin)
    yield create(ADMIN, Thing("ROLE", owner))
    yield grant_role(ADMIN, owner, setup.roles.admin)
    yield create(ADMIN, database)
    yield create(ADMIN, schema)
    yield grant(ADMIN, "USAGE", database, owner)
    yield grant(ADMIN, "USAGE", schema, owner)


def things(access: ExternalAccess) -> tuple[Thing, Thing, Thing]:
    """Give the network rule, the secret and the integration."""
    return (
        Thing("NETWORK RULE", access.network_rule),
        Thing("SECRET", access.secret),
        Thing("EXTERNAL ACCESS INTEGRATION", access.integration),
    )


def procedure_clauses(access: ExternalAccess) -> str:
    """Give the clauses that a procedure needs to reach MLflow itself."""
    return (
        f"EXTERNAL_ACCESS_INTEGRATIONS = ({access.integration.sql})\n"
        f"  SECRETS = ('{DEFAULT_SECRET}' = {access.secret.sql})"
    )


def mlflow_credentials(secret: str, token: str | None) -> dict[str, str]:
    """Give the variables that authenticate MLflow's client.

    Inside a procedure they come from Snowflake's secret store, and nowhere else are they written.

    Args:
        secret: The name in the procedure's SECRETS clause.
        token: What to use outside of a procedure; None for a server that wants nothing.

    Raises:
        AccessError: The procedure has no such secret.
        InvalidOptionError: The secret is of a kind that MLflow has no use for.
    """
    if not _has_secret_store():
        return {} if token is None else {"MLFLOW_TRACKING_TOKEN": token}
    from snowflake.snowpark import secrets

    try:
        kind = str(secrets.get_secret_type(secret)).upper()
    except Exception as error:
        raise AccessError(
            f"This procedure has no secret {secret!r}: add SECRETS = ('{secret}' = <the secret>) "
            "and the EXTERNAL_ACCESS_INTEGRATIONS clause to it, or set the option 'secret'."
        ) from error
    if kind == "GENERIC_STRING":
        return {"MLFLOW_TRACKING_TOKEN": secrets.get_generic_secret_string(secret)}
    if kind == "PASSWORD":
        pair = secrets.get_username_password(secret)
        return {
            "MLFLOW_TRACKING_USERNAME": pair.username,
            "MLFLOW_TRACKING_PASSWORD": pair.password,
        }
    if kind == "OAUTH2":
        return {"MLFLOW_TRACKING_TOKEN": secrets.get_oauth_access_token(secret)}
    raise InvalidOptionError(
        f"The secret {secret!r} is of the type {kind}, of which MLflow's client has no use: make "
        "it a GENERIC_STRING with a token, or a PASSWORD."
    )


def _has_secret_store() -> bool:
    """Tell whether this is a procedure or a container in Snowflake, as Snowpark does, but cheaply."""
    return (
        "_snowflake" in sys.modules
        or find_spec("_snowflake") is not None
        or "SNOWFLAKE_CONTAINER_SERVICES_SECRET_PATH_PREFIX" in os.environ
    )
