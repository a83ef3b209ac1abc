"""Opening a session with what Snowflake's own tools already know."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlflow_connections import AccessError, ConnectionsError, MissingOptionError, UnreachableError
from mlflow_connections.secrets import mask

if TYPE_CHECKING:
    from snowflake.snowpark import Session

# The variables of Snowflake's own command line, each named after a parameter of its connector.
IDENTITY = (
    "account",
    "user",
    "password",
    "authenticator",
    "token",
    "private_key_file",
    "private_key_file_pwd",
    "role",
    "warehouse",
    "host",
)
SECRETS = frozenset({"password", "token", "private_key_file_pwd"})
_PARAMETERS = (*IDENTITY, "database", "schema", "port", "protocol")


def open_session(
    connection: str | None = None, parameters: Mapping[str, Any] | None = None
) -> "Session":
    """Open a session.

    Args:
        connection: A name in `connections.toml`. Without one the environment decides
            (`SNOWFLAKE_ACCOUNT`, `SNOWFLAKE_USER`, `SNOWFLAKE_PASSWORD`, …), and without
            `SNOWFLAKE_ACCOUNT` the default connection of `connections.toml`.
        parameters: The connector's own parameters, in the place of all that.

    Raises:
        MissingOptionError: There is no such connection.
        AccessError: Snowflake did not let us in.
        UnreachableError: It did not answer.
    """
    from snowflake.connector.errors import Error, OperationalError
    from snowflake.snowpark import Session

    given: dict[str, Any] = (
        dict(parameters) if parameters else {} if connection else _from_environment()
    )
    builder = Session.builder.configs(given)
    if connection:
        builder = builder.config("connection_name", connection)
    try:
        session: Session = builder.create()
    except Error as error:
        said = mask(" ".join(str(error.msg or error).split()), [given.get(key) for key in SECRETS])
        kind: type[ConnectionsError]
        kind = UnreachableError if isinstance(error, OperationalError) else AccessError
        # What the connector says of a name that is in no connections.toml.
        if "known ones are" in said:
            kind = MissingOptionError
        raise kind(
            f"No session with Snowflake: {said.rstrip('.')}. Connection parameters are read from "
            "--connection and connections.toml, or from SNOWFLAKE_ACCOUNT, SNOWFLAKE_USER, "
            "SNOWFLAKE_PASSWORD and so on."
        ) from error
    return session


def _from_environment() -> dict[str, str]:
    if not os.environ.get("SNOWFLAKE_ACCOUNT"):
        return {}
    read = {key: os.environ.get(f"SNOWFLAKE_{key.upper()}") for key in _PARAMETERS}
    return {key: value for key, value in read.items() if value}
