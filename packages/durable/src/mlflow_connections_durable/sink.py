"""The sink: applies events to the server, uploads the kept artifacts, and removes them.

The shipper imports this module in its own process. Spools name `open_sink`, so its path is fixed.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mlflow_connections.authentication import has_lost_parent
from mlflow_connections.mlflow_state import CREDENTIAL_VARIABLES
from mlflow_connections.secrets import explain, mask_uri
from mlflow_connections_events.replay import ReplaySink
from mlflow_connections_outbox import Batch, Destination, Event, Sink, Unauthorized, Unavailable

from ._delivering import delivering
from ._experiment_ids import is_provisional_experiment
from ._kept_files import KeptFiles
from ._records import EXPERIMENTS, RUNS, Records
from ._uri import OFFLINE

TARGET_VARIABLE = "MLFLOW_CONNECTIONS_DURABLE_TARGET"
"""The secret of the outbox with the server's URI and the variables that it needs."""
DESCRIPTION = "server.json"
"""The file of the state folder that identifies the server, without secrets."""
SHIPPED_TO = "shipped_to"
"""The file of the state folder with the last URI of `outbox ship --to`, without secrets."""
_NAME_EXPERIMENTS = frozenset({"run_started", "model_logged", "trace_logged", "spans_logged"})
_RESOLVED: dict[str, str] = {}


class DurableTarget(NamedTuple):
    """The server that events go to.

    Attributes:
        uri: Its tracking URI.
        environment: Variables that it needs.
        is_own: Whether it is the server that was logged to, so that its IDs are those in the
            events.
    """

    uri: str
    environment: Mapping[str, str]
    is_own: bool

    def __repr__(self) -> str:
        """Hide every credential."""
        return f"DurableTarget({mask_uri(self.uri)!r})"


def open_sink(destination: Destination, environ: Mapping[str, str], state: Path) -> Sink:
    """Open the sink of a server.

    Args:
        destination: Its URL is the server's, without credentials; with `outbox ship --to` another
            one's.
        environ: Holds the server and its credentials, if a process that logs has started this one.
        state: The folder for the map of IDs and the kept files.

    Raises:
        Unavailable: There is no server (`offline`).
        Unauthorized: This process cannot find the server's credentials.
    """
    # The client that signs in may import MLflow: azureml-mlflow does.
    only_delivers = "mlflow" not in sys.modules
    target = _target(destination, environ, state)
    if not target.is_own and target.uri != OFFLINE:
        (state / SHIPPED_TO).write_text(mask_uri(target.uri), encoding="utf-8")
    with delivering():
        return DurableSink(target, environ, state, only_delivers=only_delivers)


def forget_dropped(state: Path, events: Sequence[Event] | None) -> None:
    """Remove the kept copies of dropped events' artifacts, or all copies if no events are left."""
    KeptFiles(state).forget(events)


class DurableSink:
    """Applies batches to a server.

    Args:
        target: The server.
        environ: The environment of the delivery.
        state: The folder for the map of IDs and the kept files.
        consume: Whether kept files are removed once they are uploaded.
        only_delivers: Whether the process does nothing but deliver.
    """

    def __init__(
        self,
        target: DurableTarget,
        environ: Mapping[str, str],
        state: Path,
        *,
        consume: bool = True,
        only_delivers: bool = False,
    ) -> None:
        self._is_own = target.is_own
        self._kept = KeptFiles(state, consume=consume)
        self._kept.sweep()
        self._experiments = Records(state / EXPERIMENTS)
        kept = {k: v for k, v in environ.items() if k not in CREDENTIAL_VARIABLES}
        environment = {**kept, **target.environment}
        environment.pop(TARGET_VARIABLE, None)
        self._runs = Records(state / RUNS)
        self.replay = ReplaySink(
            *(target.uri, environment, state),
            files=self._kept,
            own_ids=target.is_own,
            announced=self._announced,
            only_delivers=only_delivers,
        )

    def send(self, batch: Batch) -> None:
        """Apply a batch in order; see `ReplaySink.send`."""
        events = [self._prepared(event) for event in batch]
        with delivering():
            self.replay.send(Batch(events, batch.accept, batch.reject, batch.postpone, batch.allow))

    def close(self) -> None:
        """Close connections."""
        self.replay.close()

    def _prepared(self, event: Event) -> Event:
        """Return an event whose experiment is described, unless its ID is certain to be the server's."""
        data = event.data
        if event.kind not in _NAME_EXPERIMENTS or data.get("experiment_id") is None:
            return event
        if self._is_own and data.get("server_id"):
            return event._replace(data={**data, "experiment_name": None})
        data = self._described(data)
        if not self._is_own and "server_id" in data:
            data["server_id"] = False
        return event._replace(data=data)

    def _described(self, data: Mapping[str, Any]) -> dict[str, Any]:
        known = data["experiment_id"]
        noted = self._experiments.get(known) or {}
        name, created = data.get("experiment_name") or noted.get("name"), None
        if self._is_own and not is_provisional_experiment(known):
            # Without a record of it, only the ID is known.
            created = noted.get("created")
            name = name if created is not None else None
        return {**data, "experiment_name": name, "experiment_created": created}

    def _announced(self, run_id: str) -> Mapping[str, Any] | None:
        record = self._runs.get(run_id)
        return None if record is None else {**self._described(record), "server_id": False}


def announcements(state: Path) -> list[Event]:
    """Return the announcements of all runs that this machine created, for a server that has none of them."""
    found = []
    for run_id, record in Records(state / RUNS).all().items():
        data: dict[str, Any] = {k: v for k, v in record.items() if k not in {"provisional", "key"}}
        found.append(Event(run_id, "run_started", data.get("start_time") or 0, data, run_id))
    return found


def _target(destination: Destination, environ: Mapping[str, str], state: Path) -> DurableTarget:
    noted = _noted(state)
    packed = environ.get(TARGET_VARIABLE)
    url = destination.url
    own = noted.get("uri") in {None, url} or url.startswith(f"{noted['uri']} at ")
    if packed:
        uri, environment = json.loads(packed)
        if (server := noted.get("server")) and has_lost_parent(uri, environment):
            # The training signed in by `mlflow-connections run`, which has ended with it.
            return _resolved(server, is_own=True)
        return DurableTarget(uri, environment, is_own=uri != OFFLINE)
    if url == OFFLINE:
        raise Unavailable(
            "'server' is 'offline': deliver the waiting events with `mlflow-connections "
            "outbox ship --destination offline --to <server>`."
        )
    if not own or noted.get("uri") == OFFLINE:
        return _resolved(url, is_own=False)
    return _resolved(noted.get("server") or url, is_own=True)


def _noted(state: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        found: dict[str, str] = json.loads((state / DESCRIPTION).read_text(encoding="utf-8"))
        return found
    return {}


def _resolved(server: str, *, is_own: bool) -> DurableTarget:
    """Resolve a server by its keyword, name or URI, and sign in accordingly."""
    from mlflow_connections import ConnectionsError, UnreachableError, resolve

    if "***" in server:
        raise Unauthorized(
            f"The credentials in the URI of {server} are not known to this process; they are sent along "
            "by the next process that logs."
        )
    try:
        endpoint = resolve(server)
    except UnreachableError as error:
        raise Unavailable(explain(error)) from None
    except ConnectionsError as error:
        raise Unauthorized(explain(error)) from None
    if server not in _RESOLVED:
        _RESOLVED[server] = endpoint.tracking_uri
        for binder in endpoint.binders:
            binder.bind()
    mine = {name: os.environ[name] for name in CREDENTIAL_VARIABLES if name in os.environ}
    return DurableTarget(endpoint.tracking_uri, {**mine, **endpoint.environment}, is_own=is_own)
