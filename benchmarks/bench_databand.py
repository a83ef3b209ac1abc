"""The cost of a copy for Databand to the code that logs: calls, batches, capture alone, requests, imports.

Batches take a quarter of a second and vary as much from one to the next. In addition to their
ratio, the table therefore shows the time of the capture itself, which is all that their caller
waits for.
"""

import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mlflow
from _ratio import Row, interleave, median, table
from mlflow import MlflowClient
from mlflow.entities import Metric

from mlflow_connections_databand import connection
from mlflow_connections_databand._composite import DatabandCopy
from mlflow_connections_databand._redact import redact
from mlflow_connections_databand._uri import TOKEN_VARIABLES, CompositeUri
from mlflow_connections_events._proxy import proxy
from mlflow_connections_events._recording._recorder import Recorder
from mlflow_connections_events._recording._run_cache import AnnouncedRun
from mlflow_connections_events.vocabulary import RUN_KINDS
from mlflow_connections_outbox import Outbox, outbox_in_force
from mlflow_connections_sandbox import Fault, MlflowServer
from mlflow_connections_sandbox._databand import Databand

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

CALLS = 1_000
CHUNK = 25
BATCH = 1_000
BATCHES = 41
EVENTS = 20_000
IMPORTS = 5

# Modules that MLflow loads in any case are loaded before the clock starts.
_IMPORT = """
import importlib.metadata as metadata, time
every = metadata.entry_points
def others(**which):
    found = every(**which)
    return metadata.EntryPoints(p for p in found if "mlflow_connections_" not in p.value)
metadata.entry_points = others
begun = time.perf_counter()
import mlflow
whole = time.perf_counter() - begun
begun = time.perf_counter()
from mlflow_connections_events.plugin import Activation
Activation()
print(whole, time.perf_counter() - begun)
"""


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, MlflowServer(Path(folder) / "server") as server:
        backends = {"SQLite": f"sqlite:///{folder}/mlflow.db", "a server": server.url}
        rows: list[Row] = []
        for state in ("healthy", "hanging"):
            with running_tracker(Path(folder) / state, state) as tracker:
                for name, uri in backends.items():
                    rows += logging_rows(f"{name}, tracker {state}", uri, tracker, name)
                run_id = target(composite(tracker, backends["SQLite"])).run_id
                rows += capture_rows(f"tracker {state}", tracker, run_id)
                if state == "healthy":
                    rows.append(request_row(tracker, run_id))
        print(table([*rows, import_row()]))


class Tracker(NamedTuple):
    """A tracker that runs in another process.

    Attributes:
        url: Its address.
        token: The token that it requires.
        ask: Returns the number of requests with metrics since the last call.
    """

    url: str
    token: str
    ask: Callable[[], int]


@contextmanager
def running_tracker(folder: Path, state: str) -> Iterator[Tracker]:
    """Run a tracker that responds immediately, or never.

    It has its own process, which runs only when the others leave time: a real tracker has its own
    machine.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_track, args=(there, folder, state))
    process.start()

    def ask() -> int:
        here.send("count")
        count: int = here.recv()
        return count

    url, token = here.recv()
    yield Tracker(url, token, ask)
    here.send("end")
    process.join()


def _track(pipe: "Connection", folder: Path, state: str) -> None:
    os.nice(19)
    tracker = Databand("http://127.0.0.1:9", folder)
    tracker.start()
    if state == "hanging":
        tracker.faults.inject(Fault(delay=3_600))
    pipe.send((tracker.url, tracker.account.token))
    while pipe.recv() != "end":
        pipe.send(len(tracker.journal.requests("log_metrics")))
        tracker.journal.clear()
    # Not closed: a request that hangs in it would log a long error.
    os._exit(0)


class Target(NamedTuple):
    """A run to log to.

    Attributes:
        client: The client of its store.
        run_id: The run.
    """

    client: MlflowClient
    run_id: str

    def log(self, count: int) -> None:
        """Log one metric after another."""
        for step in range(count):
            self.client.log_metric(self.run_id, "loss", 0.5, step=step)

    def log_batch(self) -> None:
        """Log as many metrics as MLflow accepts in one call."""
        self.client.log_batch(self.run_id, _batch())


def _batch() -> list[Metric]:
    at = time.time_ns() // 1_000_000
    return [Metric(f"m{i}", 0.5, at, 0) for i in range(BATCH)]


def target(uri: str) -> Target:
    """Create a run in a store."""
    client = MlflowClient(uri)
    return Target(client, client.create_run("0").info.run_id)


def composite(tracker: Tracker, uri: str) -> str:
    """Return the URI that copies a store for a tracker, and store the token for it."""
    os.environ[TOKEN_VARIABLES[0]] = tracker.token
    return connection.tracking_uri({}, {"databand_url": tracker.url, "duplicate_tracking_to": uri})


def logging_rows(what: str, uri: str, tracker: Tracker, backend: str) -> list[Row]:
    """Compare logging to a store with a copy with logging to the same store without one."""
    plain, ours = target(uri), target(composite(tracker, uri))
    for one in (plain, ours):
        one.log(CHUNK)
    calls = interleave(lambda: plain.log(CHUNK), lambda: ours.log(CHUNK), CALLS // CHUNK)
    batches = interleave(plain.log_batch, ours.log_batch, BATCHES)
    most = 1.05 if backend == "SQLite" else 1.02
    aim = f"under {round((most - 1) * 100)} % more"
    rows = []
    for name, times, factor in (
        (f"log_metric, {CALLS} calls, each", calls, 1e3 / CHUNK),
        (f"log_batch({BATCH})", batches, 1e3),
    ):
        medians = median(times[0], factor), median(times[1], factor)
        rows.append(Row(f"{name}, {what}", *medians, "ms", aim, medians[1] <= medians[0] * most))
    after = _After(plain)
    store = _captured(after, tracker, ours.run_id)
    metric, batch = _batch()[0], _batch()
    for row, call, rounds in (
        (rows[0], lambda: store.log_metric(ours.run_id, metric), CALLS // 2),
        (rows[1], lambda: store.log_batch(ours.run_id, batch, [], []), BATCHES),
    ):
        alone = median([after.took(call) for _ in range(rounds)], 1e3)
        before = row.plain or 0.0
        name, is_met = f"{row.what}: capture alone", alone <= before * (most - 1)
        rows.append(Row(name, before, before + alone, "ms", aim, is_met))
    return rows


class _After:
    """A store that logs to a plain run and records the time at which that is done; capture follows it."""

    def __init__(self, plain: Target) -> None:
        self._plain = plain
        self._done = 0.0

    def log_metric(self, run_id: str, metric: Any) -> None:  # noqa: ARG002 - a store's signature
        """Log one metric."""
        self._plain.log(1)
        self._done = time.perf_counter()

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:  # noqa: ARG002
        """Log a batch."""
        self._plain.log_batch()
        self._done = time.perf_counter()

    def took(self, call: Callable[[], object]) -> float:
        """Return the seconds that a call took after this store was done."""
        call()
        return time.perf_counter() - self._done


class _Nothing:
    """A store that accepts everything and does nothing, so that only the capture is measured."""

    def log_metric(self, run_id: str, metric: Any) -> None:
        """Accept the metric."""


def capture_rows(what: str, tracker: Tracker, run_id: str) -> list[Row]:
    """Capture at full rate, and time each call."""
    times = statistics.quantiles(_capture(tracker, run_id, EVENTS), n=1_000)
    p50, p99, p999 = (times[i - 1] * 1e6 for i in (500, 990, 999))
    return [
        Row(f"capture, p50, {what}", None, p50, "µs"),
        Row(f"capture, p99, {what}", None, p99, "µs", "under 1 ms", p99 < 1_000),
        Row(f"capture, p99.9, {what}", None, p999, "µs"),
    ]


def _capture(tracker: Tracker, run_id: str, events: int) -> list[float]:
    log = _captured(_Nothing(), tracker, run_id).log_metric
    at = time.time_ns() // 1_000_000
    times = []
    for step in range(events):
        metric = Metric("captured", 0.5, at, step)
        begun = time.perf_counter()
        log(run_id, metric)
        times.append(time.perf_counter() - begun)
    return times


def _captured(store: Any, tracker: Tracker, run_id: str) -> Any:
    log = outbox_in_force(lambda: outbox_of(tracker))
    recorder = Recorder(store, log, redact=redact, kinds=RUN_KINDS)
    recorder.runs.announce(run_id, AnnouncedRun({}, {}))
    return proxy(store, recorder.methods())


def outbox_of(tracker: Tracker) -> Outbox:
    """Return the outbox of a tracker."""
    return DatabandCopy(CompositeUri(tracker.url)).outbox()


def request_row(tracker: Tracker, run_id: str) -> Row:
    """Count the requests for many single metrics, to see how many share a request."""
    _drain(tracker)
    tracker.ask()
    _capture(tracker, run_id, EVENTS)
    _drain(tracker)
    requests = tracker.ask()
    return Row(
        f"metrics in one request, {EVENTS} at full rate",
        None,
        EVENTS / requests,
        "metrics",
        "500, or half a second",
    )


def _drain(tracker: Tracker) -> None:
    outbox = outbox_of(tracker)
    while outbox.flush(5.0):
        time.sleep(0.1)


def import_row() -> Row:
    """Import MLflow, and then our modules that its entry points load."""
    times = []
    for _ in range(IMPORTS):
        printed = subprocess.run(
            [sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True
        ).stdout
        times.append([float(word) for word in printed.split()])
    whole, extra = (median(column, 1e3) for column in zip(*times, strict=True))
    what = f"import mlflow {mlflow.__version__} with the package installed"
    return Row(what, whole, whole + extra, "ms", "under 5 ms more", extra < 5)


if __name__ == "__main__":
    main()
