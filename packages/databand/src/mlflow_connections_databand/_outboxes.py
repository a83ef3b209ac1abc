"""One outbox per Databand in this process."""

import threading

from ._uri import CompositeUri
from .outbox import Destination, Outbox

USER_VARIABLE = "DBND__CORE__DBND_USER"
PASSWORD_VARIABLE = "DBND__CORE__DBND_PASSWORD"  # noqa: S105 - the name, not a password
FACTORY = "mlflow_connections_databand._tracker:make_sink"

_lock = threading.Lock()
_outboxes: dict[tuple[str, str | None], Outbox] = {}


def outbox_for(uri: CompositeUri) -> Outbox:
    """Give the outbox of a Databand; its address goes to the disk, its credentials do not."""
    with _lock:
        key = uri.databand_url, uri.username
        if key not in _outboxes:
            secrets = {}
            if uri.username is not None:
                secrets = {USER_VARIABLE: uri.username, PASSWORD_VARIABLE: uri.password or ""}
            _outboxes[key] = Outbox(Destination("databand", uri.databand_url, FACTORY), secrets)
        return _outboxes[key]
