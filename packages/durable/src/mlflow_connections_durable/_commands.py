"""The commands `mlflow-connections outbox runs` and `mlflow-connections outbox view`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from mlflow_connections.reports import table
from mlflow_connections_events.ids import IdMap
from mlflow_connections_outbox import Batch, Event, admin

from ._records import RUNS, Records
from ._uri import OFFLINE
from .sink import DESCRIPTION, SHIPPED_TO, DurableSink, DurableTarget, announcements

NAME = "durable"
_CHUNK = 500


class Add(Protocol):
    """Adds a command to `mlflow-connections outbox`."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        """Return the parser of the new command."""


class RunRow(NamedTuple):
    """A run that this machine created.

    Attributes:
        run: Its name.
        started: Its start time.
        id: The ID by which the program that created it knows it.
        server_id: The server's ID, or None while it has none.
        url: Its page on the server, or None.
    """

    run: str
    started: str
    id: str
    server_id: str | None
    url: str | None


def add_runs(add: Add) -> None:
    """Add the command `runs`."""
    added = add(
        "runs", runs, "List this machine's runs with their provisional IDs and the server's IDs."
    )
    added.add_argument("--all", action="store_true", help="list runs without a provisional ID too")


def runs(parsed: argparse.Namespace) -> int:
    """List the runs that this machine created; by default those with a provisional ID."""
    found = list(_rows(everything=parsed.all))
    if parsed.output == "json":
        print(json.dumps([row._asdict() for row in found], indent=2))
        return 0
    if not found:
        print("No run has a provisional ID.")
        return 0
    print(table([_shown(row) for row in found]))
    return 0


def _shown(row: RunRow) -> dict[str, str]:
    return {
        "run": row.run,
        "started": row.started,
        "provisional ID": row.id,
        "server's ID": row.server_id or "waits",
        "URL": row.url or "",
    }


def _rows(*, everything: bool) -> Iterator[RunRow]:
    for state in _states():
        ids = IdMap(state)
        server = _server_of(state)
        for run_id, record in Records(state / RUNS).all().items():
            # A run that the server lost and received again is like one that waited for its ID.
            provisional = bool(record.get("provisional")) or ids.get(run_id) is not None
            if not provisional and not everything:
                continue
            real = ids.get(run_id) if provisional else run_id
            experiment = str(record.get("experiment_id"))
            experiment = ids.get(f"experiment {experiment}") or experiment
            url = None
            if real and server.startswith(("http://", "https://")):
                url = f"{server.rstrip('/')}/#/experiments/{experiment}/runs/{real}"
            began = time.localtime((record.get("start_time") or 0) / 1000)
            started = time.strftime("%Y-%m-%d %H:%M:%S", began)
            yield RunRow(str(record.get("run_name")), started, run_id, real, url)


def add_view(add: Add) -> None:
    """Add the command `view`."""
    added = add(
        "view",
        view,
        "Copy waiting events into a local SQLite store, and open MLflow's UI on it. The events keep waiting.",
    )
    added.add_argument("--port", type=int, default=5000, help="the port of the UI (default: 5000)")
    added.add_argument(
        "--store", metavar="FOLDER", help="keep the store in this folder, and do not open the UI"
    )


def view(parsed: argparse.Namespace) -> int:
    """Replay waiting events into a local store."""
    if parsed.store:
        folder = Path(parsed.store).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return _report(_replay(folder), folder, parsed.output)
    with tempfile.TemporaryDirectory(prefix="mlflow-connections-view-") as temporary:
        folder = Path(temporary)
        problems = _replay(folder)
        _report(problems, folder, parsed.output)
        return _serve(folder, parsed.port)


def _replay(folder: Path) -> list[str]:
    """Replay every outbox of this keyword into a store, and return the problems."""
    # A database resolves artifact locations by the working directory and the variables of the
    # process.
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    os.environ["MLFLOW_TRACKING_URI"] = uri
    os.environ.pop("MLFLOW_REGISTRY_URI", None)
    os.chdir(folder)
    problems: list[str] = []
    for number, report in enumerate(admin.outboxes(NAME)):
        if report.problem:
            problems.append(f"{report.name}: {report.problem}")
            continue
        spool_state = report.folder / "state"
        waiting = admin.waiting_events(report.folder)
        streams = {event.stream for event in waiting}
        known = [event for event in announcements(spool_state) if event.stream in streams]
        state = folder / f"state-{number}"
        _link(spool_state, state)
        sink = DurableSink(DurableTarget(uri, {}, is_own=False), {}, state, consume=False)
        problems += _send(sink, [*known, *waiting])
    return problems


def _link(source: Path, state: Path) -> None:
    """Let a second state folder read the kept files and the records of the spool's, but not its IDs."""
    state.mkdir(exist_ok=True)
    for entry in source.iterdir() if source.is_dir() else ():
        link = state / entry.name
        if entry.suffix != ".json" and entry.name != "ids.jsonl" and not link.exists():
            link.symlink_to(entry, target_is_directory=entry.is_dir())


def _send(sink: DurableSink, events: list[Event]) -> list[str]:
    problems: list[str] = []
    for start in range(0, len(events), _CHUNK):
        chunk = events[start : start + _CHUNK]
        sink.send(Batch(chunk, on_reject=lambda _, reason: problems.append(reason)))
    sink.close()
    return problems


def _report(problems: list[str], folder: Path, output: str) -> int:
    if output == "json":
        print(json.dumps({"store": f"sqlite:///{folder / 'mlflow.db'}", "problems": problems}))
    else:
        for problem in problems:
            print(f"not shown: {problem}", file=sys.stderr)
        print(f"The waiting events are in sqlite:///{folder / 'mlflow.db'}")
    return 1 if problems else 0


def _serve(folder: Path, port: int) -> int:
    command = [sys.executable, "-m", "mlflow", "ui", "--port", str(port)]
    store = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    print(f"http://127.0.0.1:{port} shows it until Ctrl-C.", flush=True)
    try:
        return subprocess.run([*command, *store], check=False).returncode
    except KeyboardInterrupt:
        return 0


def _states() -> list[Path]:
    return [report.folder / "state" for report in admin.outboxes(NAME) if not report.problem]


def _server_of(state: Path) -> str:
    """Return the URI of the server that has the runs; without a server, of the one they were shipped to."""
    server = _described(state).get("uri", "")
    if server == OFFLINE:
        with suppress(OSError):
            return (state / SHIPPED_TO).read_text(encoding="utf-8")
    return server


def _described(state: Path) -> Mapping[str, str]:
    try:
        found: Mapping[str, str] = json.loads((state / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
