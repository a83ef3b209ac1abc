"""Which Snowpark session a store speaks through."""

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow_connections import AccessError
from mlflow_connections_snowflake._session import open_session

from ._bridge import Bridge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from snowflake.snowpark import Session

# The codes of SnowparkSessionException, from snowflake/snowpark/_internal/error_message.py.
_MORE_THAN_ONE, _IN_A_PROCEDURE = "1409", "1410"

_lock = threading.RLock()
_opened: "dict[str | None, Session]" = {}


@contextmanager
def speaking(bridge: Bridge) -> "Iterator[Session]":
    """Give the session, to nobody else meanwhile.

    A session takes one statement at a time, and some of MLflow's autologging works in threads.

    Raises:
        ConnectionsError: As `session_of` says.
    """
    with _lock:
        yield session_of(bridge)


def session_of(bridge: Bridge) -> "Session":
    """Give the session: inside a procedure its own, outside the one of the connection.

    It is asked for anew before each statement: a procedure's session ends with the procedure, and
    what MLflow keeps of a store may outlive it.

    Raises:
        AccessError: More than one session is active, and nothing says which is meant.
        MissingOptionError: There is no session, and no such connection to open one.
        UnreachableError: Snowflake did not answer.
    """
    known = _opened.get(bridge.connection)
    if known is not None and not _is_closed(known):
        return known
    if bridge.connection is None and (active := _active()):
        return active
    from snowflake.snowpark.exceptions import SnowparkSessionException

    try:
        known = _opened[bridge.connection] = open_session(bridge.connection)
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
