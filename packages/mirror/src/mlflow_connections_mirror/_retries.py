"""Calling a server again while it does not respond."""

import time
from collections.abc import Callable
from typing import TypeVar

from mlflow_connections import ConnectionsError, UnreachableError
from mlflow_connections.secrets import mask_uri
from mlflow_connections_events.replay import judge
from mlflow_connections_outbox import Rejected, Unauthorized, Unavailable

T = TypeVar("T")

ATTEMPTS = 6
_FIRST_PAUSE = 0.5


def retried(function: Callable[[], T], uri: str) -> T:
    """Call a function again after a pause while a server does not respond.

    Args:
        function: Sends requests to the server.
        uri: The server, for messages.

    Raises:
        Unavailable: It did not respond `ATTEMPTS` times.
        Unauthorized: It does not accept the credentials.
        UnreachableError: It refused the request.
    """
    pause = _FIRST_PAUSE
    for attempt in range(1, ATTEMPTS + 1):
        error = _failure(function, uri)
        if not isinstance(error, Exception):
            return error
        if attempt == ATTEMPTS or not isinstance(error, Unavailable) or _is_final(error):
            raise error
        time.sleep(max(pause, min(error.retry_after or 0.0, 60.0)))
        pause *= 2
    raise AssertionError("unreachable")


def _is_final(error: Exception) -> bool:
    return isinstance(error, Unauthorized)


def _failure(function: Callable[[], T], uri: str) -> T | Exception:
    """Return the result of a function, or its exception as one of the outbox's errors."""
    try:
        return function()
    except ConnectionsError as error:
        return error
    except ImportError as error:
        # For example from a database driver, or from MLflow's own server.
        return UnreachableError(f"{mask_uri(uri)} needs a module that is not installed: {error}.")
    except Exception as error:  # noqa: BLE001 - MLflow raises what its plugins and drivers raise
        judged = judge(error, uri)
        return UnreachableError(str(judged)) if isinstance(judged, Rejected) else judged
