"""One outbox per Databand in this process."""

import os
import threading

from ._uri import CompositeUri
from .outbox import Destination, Outbox

TOKEN_VARIABLES = ("DBND__CORE__DATABAND_ACCESS_TOKEN", "DATABAND_ACCESS_TOKEN")
"""Where a token is looked for: dbnd's own variable, then the short one."""
USER_VARIABLE = "DBND__CORE__DBND_USER"
PASSWORD_VARIABLE = "DBND__CORE__DBND_PASSWORD"  # noqa: S105 - the name, not a password
FACTORY = "mlflow_connections_databand._tracker:make_sink"

_SECRETS = (*TOKEN_VARIABLES, USER_VARIABLE, PASSWORD_VARIABLE)

_lock = threading.Lock()
_outboxes: dict[tuple[str, ...], Outbox] = {}


def outbox_for(uri: CompositeUri) -> Outbox:
    """Give the outbox of a Databand; its address goes to the disk, its credentials do not.

    The credentials of now are kept: variables are put back when a connection ends, and what it
    left is delivered later.
    """
    secrets = {name: value for name in _SECRETS if (value := os.environ.get(name))}
    if uri.username is not None:
        secrets = {USER_VARIABLE: uri.username, PASSWORD_VARIABLE: uri.password or ""}
    key = (uri.databand_url, *(f"{k}={v}" for k, v in sorted(secrets.items())))
    with _lock:
        if key not in _outboxes:
            _outboxes[key] = Outbox(Destination("databand", uri.databand_url, FACTORY), secrets)
        return _outboxes[key]


def _after_fork() -> None:
    # A thread that held the lock is not in the child, and would never let go of it.
    global _lock  # noqa: PLW0603 - a lock cannot be renewed in place
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
