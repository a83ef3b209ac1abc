"""Opening a session with what Snowflake's own tools already know."""

import os
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow_connections import AccessError, ConnectionsError, MissingOptionError, UnreachableError
from mlflow_connections.secrets import mask

if TYPE_CHECKING:
    from collections.abc import Iterator

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


# The codes of SnowparkSessionException, from snowflake/snowpark/_internal/error_message.py.
_MORE_THAN_ONE, _IN_A_PROCEDURE = "1409", "1410"

_lock = threading.RLock()
_opened: "dict[str | None, Session]" = {}


@contextmanager
def exclusive_session(connection: str | None) -> "Iterator[Session]":
    """Give the session, to nobody else meanwhile.

    A session takes one statement at a time, and some of MLflow's autologging works in threads.

    Raises:
        ConnectionsError: As `session_of` says.
    """
    with _lock:
        yield session_of(connection)


def session_of(connection: str | None) -> "Session":
    """Give the session: inside a procedure its own, outside the one of the connection.

    It is asked for anew before each statement: a procedure's session ends with the procedure, and
    what MLflow keeps of a store may outlive it.

    Raises:
        AccessError: More than one session is active, and nothing says which is meant.
        MissingOptionError: There is no session, and no such connection to open one.
        UnreachableError: Snowflake did not answer.
    """
    known = _opened.get(connection)
    if known is not None and not _is_closed(known):
        return known
    if connection is None and (active := _active()):
        return active
    from snowflake.snowpark.exceptions import SnowparkSessionException

    try:
        known = _opened[connection] = open_session(connection)
    except SnowparkSessionException as error:
        # The connection is for where there is no session; the same URI serves a procedure too.
        if error.error_code == _IN_A_PROCEDURE and (active := _active()):
            return active
        raise
    return known


def _active() -> "Session | None":
    """Give the one active session, unless we opened it ourselves for another bridge."""
    from snowflake.snowpark.context import get_active_session
    from snowflake.snowpark.exceptions import SnowparkSessionException

    try:
        session = get_active_session()
    except SnowparkSessionException as error:
        if error.error_code == _MORE_THAN_ONE:
            raise AccessError(
                "More than one Snowpark session is active, so it is not clear which one MLflow "
                "should use: close all but one, or name one by the option 'connection'."
            ) from error
        return None
    return None if any(session is own for own in _opened.values()) else session


def _is_closed(session: "Session") -> bool:
    return bool(session._conn.is_closed())
