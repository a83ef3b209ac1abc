"""Replay: a sink that applies events to another MLflow server, through MLflow's store interface.

An outbox names it as `mlflow_connections_events.replay:open_replay`, with the server's tracking URI
as the destination's URL. A product with additional needs writes its own `open_sink` with a
`ReplaySink`:

* a copy for a second server passes `files`, which reads artifacts from the source;
* a write-behind store passes `own_ids=True`, and `files` that reads the copies in its state folder.
  Runs whose announcement has `server_id` true already exist on the server; the others are created,
  and the store resolves their provisional IDs with an `IdMap` of the same folder.

**Idempotency.** An event may be delivered twice. Created entities carry the source's ID in the tag
`mlflow_connections.source_id`, and the destination is searched for the tag before anything is
created, so a lost response or a lost state folder duplicates nothing. Metrics, params, tags, states
and files may be written twice with the same result. Two processes that create the same run at the
same moment may create two.

**Requests.** `logged` events of one run are joined up to MLflow's limits, whatever lies between
them in other streams. All other events are applied one by one, in order.

MLflow is imported when the sink is opened, not when this module is imported.
"""

import importlib
import json
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mlflow_connections import AccessError
from mlflow_connections.secrets import get_logger, mask, mask_uri, masked
from mlflow_connections_outbox import Batch, Destination, Event, Rejected, Unauthorized, Unavailable

from .composite import is_composite
from .ids import IdMap

if TYPE_CHECKING:
    from ._replaying._applier import Applier
    from ._replaying._artifacts import Files

__all__ = [
    "REQUEST_SECONDS",
    "STRIKES",
    "ReplaySink",
    "described",
    "import_mlflow",
    "judge",
    "missing_endpoint",
    "network_fault",
    "open_replay",
    "unless_missing",
]

REQUEST_SECONDS = 30
"""The time limit of one request in seconds, in a process that only delivers."""
STRIKES = 8
"""An event that fails this often, while the server answers other requests, is rejected."""

_STRIKES = "strikes.json"
_BYTES_PER_SECOND = 1 << 20
"""The slowest upload that is waited for: a large file may take longer than any other request."""
_CUTS = 3
"""An upload that ends early so often, while the server answers other requests, no longer holds up the others."""
_UPLOAD_PAUSE = 60.0
"""Seconds until an upload that was cut is tried again."""
_GATEWAY = frozenset({408, 502, 503, 504})
"""The statuses of a proxy whose server did not answer it."""
_REMEDIES = {
    "logged-models": " AzureML and servers of MLflow 2 have no logged models: log the model's files as artifacts.",
    "traces": " AzureML has no traces.",
}
"""The added sentence for each missing endpoint."""
_MISSING_TRIES = 3
_MISSING_PAUSE = 1.0
"""A server behind a load balancer may answer 404 while it starts, so a missing endpoint is asked for three times."""
_MISSING_SECONDS = 60.0
"""Seconds in which a missing endpoint is not asked for again three times."""
_UNAUTHORIZED = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"})
_UNAVAILABLE = frozenset(
    {
        *("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"),
        *("DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "ENDPOINT_NOT_FOUND"),
    }
)
_INTERNAL = frozenset({"INTERNAL_ERROR", ""})
_TIME_LIMIT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_REFUSED = frozenset({413, 414, 415, 422, 431})
"""The statuses that indicate a fault of the request, whichever server sends them; MLflow calls them INTERNAL_ERROR."""
_STATUS = re.compile(r"failed with error code (\d{3}) != 200")
_ENDPOINT = re.compile(r"request to endpoint \S*?/api/[\d.]+/(?:mlflow/)?([\w-]+)")


def open_replay(destination: Destination, environ: Mapping[str, str], state: Path) -> "ReplaySink":
    """Open the sink of an MLflow server.

    Args:
        destination: Its URL is the server's tracking URI.
        environ: Holds the server's credentials, under MLflow's own names.
        state: The folder for the map of IDs.
    """
    return ReplaySink(destination.url, environ, state)


class ReplaySink:
    """Applies batches of events to an MLflow server.

    Args:
        tracking_uri: The server.
        environ: The environment with the server's credentials.
        state: The folder for the map of IDs.
        files: Provides the content of artifacts; without it none are copied.
        own_ids: Whether the IDs of events are the server's own unless they are provisional.
        announced: Returns the data of the `run_started` event of a run, from which it is created
            again if the server has lost it; None for an unknown run.
        durable: Whether the map of IDs survives a power failure.
        only_delivers: Whether the process does nothing but deliver, even if it has imported MLflow.
        source: The address of the server that the events come from, without credentials. Copies from
            several servers are then told apart, though versions, and runs on AzureML, have the same IDs there.

    Attributes:
        ids: The map of IDs.
        client: An `MlflowClient` of the server and its own registry.
    """

    def __init__(
        self,
        tracking_uri: str,
        environ: Mapping[str, str],
        state: Path,
        *,
        files: "Files | None" = None,
        own_ids: bool = False,
        announced: Callable[[str], Mapping[str, Any] | None] = lambda _: None,
        durable: bool = True,
        only_delivers: bool = False,
        source: str = "",
    ) -> None:
        _prepare(tracking_uri, environ, only_delivers=only_delivers)
        self.ids = IdMap(state, durable=durable)
        self._uri = tracking_uri
        self._strikes = _Strikes(state / _STRIKES)
        self._missing: dict[str, float] = {}
        self._cut: dict[str, float] = {}
        self._applier = self._open(files, own_ids, announced, source)

    def _open(
        self,
        files: "Files | None",
        own_ids: bool,
        announced: Callable[[str], Mapping[str, Any] | None],
        source: str,
    ) -> "Applier":
        import functools

        from mlflow import MlflowClient

        from ._databases import artifacts_beside, ensure_database
        from ._mlflow import build_store, registry_uri_for
        from ._replaying._applier import Applier
        from ._replaying._target import ReplayTarget

        uri = self._uri
        ensure_database(uri)
        place = artifacts_beside(uri)
        tracking = build_store("tracking", uri, store_uri=uri, artifact_uri=place)
        registry_uri = registry_uri_for(uri)

        @functools.cache
        def registry(named: str | None) -> Any:
            at = named or registry_uri
            return build_store("model_registry", at, store_uri=at, tracking_uri=uri)

        self.client = client = MlflowClient(tracking_uri=uri, registry_uri=registry_uri)
        target = ReplayTarget(
            *(tracking, registry, client, self.ids),
            own_ids=own_ids,
            announced=announced,
            source=source,
        )
        return Applier(target, files)

    def send(self, batch: Batch) -> None:
        """Apply a batch in order, and accept the events that each request completes.

        Raises:
            Unavailable: The server does not respond, is busy, or another server responds in its
                place.
            Unauthorized: The server does not accept the credentials.
        """
        steps = _steps(batch)
        while steps:
            self._apply(batch, steps[0])
            del steps[0]
            batch.accept(min((s.positions[0] for s in steps), default=len(batch)))

    def close(self) -> None:
        """Do nothing: MLflow keeps the connections."""

    def _apply(self, batch: Batch, step: "_Step") -> None:
        tries, event = 0, batch[step.positions[0]]
        if self._cut.get(event.id, 0.0) > time.monotonic():
            self._postpone(batch, step.positions[0], now=False)
            return
        while True:
            try:
                with _time_for(event, batch):
                    self._apply_once(batch, step)
            except Exception as error:  # noqa: BLE001 - MLflow raises what its plugins and drivers raise
                missing, tries = missing_endpoint(error), tries + 1
                if missing and self.answers():
                    if (
                        tries < _MISSING_TRIES
                        and self._missing.get(missing, 0.0) < time.monotonic()
                    ):
                        time.sleep(_MISSING_PAUSE)
                        continue
                    self._missing[missing] = time.monotonic() + _MISSING_SECONDS
                    self._handle(batch, step, error, self._lacks(missing))
                elif self._is_cut_again(event, error):
                    self._cut[event.id] = time.monotonic() + _UPLOAD_PAUSE
                    self._postpone(batch, step.positions[0], now=True)
                else:
                    self._handle(batch, step, error, judge(error, self._uri))
            return

    def _apply_once(self, batch: Batch, step: "_Step") -> None:
        if step.is_log:
            self._applier.log([batch[position] for position in step.positions])
        else:
            self._applier.apply(batch[step.positions[0]])

    def _is_cut_again(self, event: Event, error: Exception) -> bool:
        """Return whether an upload ended early several times while the server answered other requests."""
        if event.kind != _UPLOAD or not _is_cut(error):
            return False
        return self._strikes.count(event.id) >= _CUTS - 1 and self.answers()

    def _postpone(self, batch: Batch, position: int, *, now: bool) -> None:
        """Queue an upload that was cut behind everything else, or wait if there is nothing else.

        Args:
            batch: The batch.
            position: The upload.
            now: Whether it was cut just now.

        Raises:
            Unavailable: There is nothing else.
        """
        event, at = batch[position], time.monotonic()
        if now or any(self._cut.get(each.id, 0.0) <= at for each in batch):
            with suppress(Unavailable):
                batch.postpone(position)
                return
        raise Unavailable(
            f"The MLflow server at {mask_uri(self._uri)} answers, but does not take {_size(event)} of "
            f"artifacts of {event.stream}: the upload ends early each time. A time limit of the server "
            "or of a proxy may be too short. It is tried again each minute.",
            retry_after=self._cut[event.id] - at,
        )

    def _lacks(self, endpoint: str) -> Rejected:
        more = _REMEDIES.get(endpoint, "")
        return Rejected(
            f"The MLflow server at {mask_uri(self._uri)} has no endpoint '{endpoint}', which this event "
            f"needs.{more}",
            [0],
        )

    def _handle(self, batch: Batch, step: "_Step", error: Exception, judged: Exception) -> None:
        event = batch[step.positions[0]]
        if isinstance(judged, Rejected) or (
            _may_be_the_events(error) and self._strikes.count(event.id) >= STRIKES
        ):
            if len(step.positions) > 1:
                # One by one, to find the faulty ones; events that were already written are written
                # again.
                for position in step.positions:
                    self._apply(batch, _Step([position], step.is_log))
                return
            batch.reject(step.positions[0], str(judged))
            return
        if _may_be_the_events(error) and self.answers():
            self._strikes.add(event.id)
        raise judged from masked(error)

    def expect_absent(self, sources: Iterable[str]) -> None:
        """Record that the server has nothing yet for these IDs, so that it is not searched for them.

        Args:
            sources: IDs of runs, logged models and traces, and versions as `<registered
                model>/<number>`, as in events. Each record is valid for one attempt.
        """
        self._applier.target.expect_absent(sources)

    def answers(self) -> bool:
        """Return whether the server responds to a request that changes nothing."""
        try:
            self._applier.target.tracking.search_experiments(max_results=1)
        except Exception:  # noqa: BLE001 - whatever it is, the server does not answer
            return False
        return True


class _Step(NamedTuple):
    """Events that one call of the applier handles, by their positions in the batch.

    `logged` events of one run share a step; every other event has its own.
    """

    positions: list[int]
    is_log: bool


def _steps(batch: Sequence[Event]) -> list[_Step]:
    """Plan a batch: `logged` events join their run's last step if that contains such events."""
    steps: list[_Step] = []
    joinable: dict[str, _Step] = {}
    for position, event in enumerate(batch):
        is_log = event.kind == "logged"
        if is_log and (step := joinable.get(event.stream)):
            step.positions.append(position)
            continue
        step = _Step([position], is_log)
        steps.append(step)
        if is_log:
            joinable[event.stream] = step
        else:
            joinable.pop(event.stream, None)
    return steps


def judge(error: Exception, uri: str) -> Exception:
    """Return the outbox's exception for one of MLflow's.

    MLflow reports an unknown host, a timeout, a cut connection, a redirect and an HTML page alike
    as INTERNAL_ERROR, so an event is rejected only if the server names a fault of the request.
    """
    if isinstance(error, Rejected | Unavailable):
        return error
    code = str(getattr(error, "error_code", ""))
    status = _status(error)
    place = f"The MLflow server at {mask_uri(uri)}"
    said = described(error)
    if (
        code in _UNAUTHORIZED
        or status in {401, 403, 407}
        or any(isinstance(each, AccessError) for each in _behind(error))
    ):
        return Unauthorized(f"{place} does not accept the credentials: {said}")
    is_passing = code in _UNAVAILABLE or code in _INTERNAL or status >= 500 or status == 429
    if is_passing and status not in _REFUSED:
        return Unavailable(f"{place} does not take events now: {said}")
    return Rejected(f"{place} refused an event: {said}", [0])


_UPLOAD = "artifacts_uploaded"


def _is_cut(error: BaseException) -> bool:
    """Return whether an upload ended early, though the server may be well."""
    return bool(network_fault(error)) or (
        isinstance(error, Exception) and _status(error) in _GATEWAY
    )


def _bytes_of(event: Event) -> int:
    return sum(int(row[1] or 0) for row in event.data.get("files", ()) if len(row) > 1)


def _size(event: Event) -> str:
    return f"{_bytes_of(event) / (1 << 20):,.1f} MiB"


@contextmanager
def _time_for(event: Event, batch: Batch) -> Iterator[None]:
    """Let a large upload take its time: the server may store all of it before it answers."""
    seconds = _bytes_of(event) // _BYTES_PER_SECOND if event.kind == _UPLOAD else 0
    if not seconds:
        yield
        return
    batch.allow(float(seconds))
    if os.getpid() not in _delivering_processes:
        yield  # the user's own time limit is in force
        return
    os.environ[_TIME_LIMIT] = str(REQUEST_SECONDS + seconds)
    try:
        yield
    finally:
        os.environ[_TIME_LIMIT] = str(REQUEST_SECONDS)


def missing_endpoint(error: BaseException) -> str:
    """Return the first word of the path that a server does not have, such as `logged-models`, or an empty text.

    The same error is raised for a proxy that finds no server. Only a server that answers other
    requests lacks the endpoint.
    """
    if str(getattr(error, "error_code", "")) != "ENDPOINT_NOT_FOUND":
        return ""
    named = _ENDPOINT.search(str(error))
    return named[1] if named else "unknown"


T = TypeVar("T")


def unless_missing(call: Callable[[], T]) -> T | None:
    """Return the result of a request, or None if the server lacks the endpoint, which is then asked three times.

    Args:
        call: Sends the request to a server that answers others.
    """
    for tries in range(1, _MISSING_TRIES + 1):
        try:
            return call()
        except Exception as error:
            if not missing_endpoint(error):
                raise
        if tries < _MISSING_TRIES:
            time.sleep(_MISSING_PAUSE)
    return None


def described(error: Exception) -> str:
    """Return what MLflow raised in at most 300 characters without secrets, an outage in a few words."""
    return network_fault(error) or mask(" ".join(str(error).split())[:300], _secrets())


def network_fault(error: BaseException) -> str:
    """Return, in a few words, why no response arrived; empty if one arrived or there is another reason.

    The clients' messages have hundreds of characters, in which their own names precede the reason.
    """
    for each in _behind(error):
        for kinds, words in _NETWORK_FAULTS:
            if isinstance(each, kinds):
                return words
    return ""


_NETWORK_FAULTS: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "it refuses connections"),
    (socket.gaierror, "its host name is unknown"),
    (ConnectionResetError, "it closed the connection"),  # includes http.client.RemoteDisconnected
    (BrokenPipeError, "it closed the connection"),
    (ssl.SSLEOFError, "it closed the connection"),
    (TimeoutError, "it did not answer in time"),
)


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and its causes, as far as Python or urllib3 keep them."""
    for _ in range(10):
        if error is None:
            return
        yield error
        # The first is urllib3's, the second that of Azure's clients.
        named = (getattr(error, name, None) for name in ("reason", "inner_exception"))
        held = (*named, *error.args)
        inner = next((each for each in held if isinstance(each, BaseException)), None)
        error = inner or error.__cause__ or error.__context__


def _status(error: Exception) -> int:
    """Return the HTTP status of an error, or 0.

    Artifact repositories raise the errors of requests; MLflow's stores name the status in words if
    the response was not MLflow's, and call all but a few of them INTERNAL_ERROR.
    """
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    if isinstance(status, int) and status:
        return status
    named = _STATUS.search(str(error))
    return int(named[1]) if named else 0


def _may_be_the_events(error: Exception) -> bool:
    return str(getattr(error, "error_code", "")) in _INTERNAL and not isinstance(
        error, Rejected | Unavailable
    )


def _secrets() -> list[str]:
    names = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD", "DATABRICKS_TOKEN")
    return [value for name in names if (value := os.environ.get(name))]


class _Strikes:
    """The number of failures of an event while the server responded; kept in a file, because sinks are short-lived."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: dict[str, int] = {}
        with suppress(OSError, ValueError):
            self._counts = dict(json.loads(path.read_text(encoding="utf-8")))

    def count(self, event: str) -> int:
        """Return the strikes of an event."""
        return self._counts.get(event, 0)

    def add(self, event: str) -> None:
        """Count a strike, and forget the events before it."""
        self._counts = {event: self.count(event) + 1}
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._counts), encoding="utf-8")


_delivering_processes: set[int] = set()
"""The ID of this process, if it only delivers: for a second server it is set up again."""


def _prepare(uri: str, environ: Mapping[str, str], *, only_delivers: bool) -> None:
    """Import MLflow and set up its environment, in a process that has not imported it and so only delivers.

    In any other process the environment is the user's: MLflow's settings stay, and the credentials
    are those of the process.

    Args:
        uri: The server.
        environ: The environment with the server's credentials.
        only_delivers: Whether the process only delivers, even if MLflow is imported: the client that
            signs in to the server may have imported it.
    """
    if "mlflow" in sys.modules and not only_delivers and os.getpid() not in _delivering_processes:
        return
    _delivering_processes.add(os.getpid())
    os.environ.update(environ)
    # A wrapped store would record replayed events, in an endless loop.
    for name in [name for name, value in os.environ.items() if is_composite(value)]:
        del os.environ[name]
    # A database's `create_model_version` resolves `models:/` by the tracking URI of the process.
    os.environ["MLFLOW_TRACKING_URI"] = uri
    # The outbox retries, and knows which requests may be repeated; MLflow's own retries could
    # create a run twice.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ[_TIME_LIMIT] = str(REQUEST_SECONDS)
    # Databricks' client has its own retries, by default for minutes; 0 selects that default.
    os.environ["MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT"] = "1"
    # A redirected POST becomes a GET, whose response does not confirm the sent data.
    os.environ["MLFLOW_ALLOW_HTTP_REDIRECTS"] = "false"
    os.environ.pop("MLFLOW_RUN_ID", None)
    import_mlflow()


def import_mlflow() -> None:
    """Import MLflow like mlflow-skinny, without pandas: it is a third of the time and of the memory.

    Code that needs pandas later imports it. Only for a process that does nothing but deliver.
    """
    modules: dict[str, Any] = sys.modules  # None stops an import
    if "pandas" in modules or "mlflow" in modules:
        return
    modules["pandas"] = None
    try:
        importlib.import_module("mlflow")
    finally:
        del modules["pandas"]
    # Its warnings, such as Databricks' at each attempt to sign in, are meant for people who train.
    get_logger("mlflow").setLevel("ERROR")
