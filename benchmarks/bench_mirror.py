"""The cost of a mirror to the code that logs, and the time of a copy of existing runs."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from _ratio import Row, interleave, median, table
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from mlflow_connections_mirror._uri import MirrorUri
from mlflow_connections_sandbox import MlflowServer

CALLS = 20
ROUNDS = 15
COPIES = 3
RUNS = 20
POINTS = 500
BROAD_RUNS = 30
BROAD_KEYS = 10
MIRROR = (sys.executable, "-m", "mlflow_connections", "mirror")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["MLFLOW_CONNECTIONS_OUTBOX_DIR"] = str(folder / "outbox")
        os.environ["MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT"] = "0"
        with MlflowServer(folder / "copy") as copy, MlflowServer(folder / "server") as server:
            primary = f"sqlite:///{folder / 'primary.db'}"
            rows = [
                logging_row("SQLite", primary, copy.url),
                logging_row("a server", server.url, copy.url),
            ]
        # Other destinations, to which no outbox delivers at the same time.
        with MlflowServer(folder / "to") as target, MlflowServer(folder / "from") as source:
            servers = (source, target)
            rows += copy_rows(f"{RUNS} runs of {POINTS} values", servers, long_runs, folder)
            rows += copy_rows(
                f"{BROAD_RUNS} runs of 10 metrics, files", servers, broad_runs, folder
            )
        print(table(rows))


def logging_row(name: str, primary: str, copy: str) -> Row:
    """Compare `log_metric` with a copy and without one."""
    plain, ours = MlflowClient(primary), MlflowClient(str(MirrorUri(primary, copy)))
    clients = [(client, client.create_run("0").info.run_id) for client in (plain, ours)]

    def log(client: MlflowClient, run_id: str) -> None:
        for step in range(CALLS):
            client.log_metric(run_id, "loss", 1.0, step=step)

    without, with_copy = interleave(lambda: log(*clients[0]), lambda: log(*clients[1]), ROUNDS)
    what = f"log_metric to {name} with a copy"
    factor = 1e6 / CALLS
    return Row(what, median(without, factor), median(with_copy, factor), "µs", "1.1 times")


def long_runs(client: MlflowClient, experiment: str) -> None:
    """Log runs with one long history each."""
    now = time.time_ns() // 1_000_000
    for _ in range(RUNS):
        run_id = client.create_run(experiment).info.run_id
        points = [Metric("loss", 1.0, now + step, step) for step in range(POINTS)]
        client.log_batch(run_id, points)
        client.set_terminated(run_id)


def broad_runs(client: MlflowClient, experiment: str) -> None:
    """Log runs with several metrics, params, and two files."""
    now = time.time_ns() // 1_000_000
    for _ in range(BROAD_RUNS):
        run_id = client.create_run(experiment).info.run_id
        points = [
            Metric(f"m{key}", 1.0, now + step, step)
            for key in range(BROAD_KEYS)
            for step in range(50)
        ]
        client.log_batch(run_id, points, [Param(f"p{key}", "1") for key in range(BROAD_KEYS)])
        for path in ("report.txt", "folder/report.txt"):
            client.log_text(run_id, "x" * 1_000, path)
        client.set_terminated(run_id)


Fill = Callable[[MlflowClient, str], None]


def copy_rows(
    what: str, servers: tuple[MlflowServer, MlflowServer], fill: Fill, folder: Path
) -> list[Row]:
    """Compare a copy with the export and import of mlflow-export-import, then copy again.

    Requests are those in the logs of both servers. Each copy has its own experiment.
    """
    source, target = servers
    times: dict[str, list[float]] = {"theirs": [], "ours": [], "again": []}
    requests: dict[str, list[float]] = {name: [] for name in times}
    client = MlflowClient(source.url)

    def measure(name: str, copy: Callable[[], None]) -> None:
        before = [requests_of(server) for server in servers]
        begun = time.perf_counter()
        copy()
        times[name].append(time.perf_counter() - begun)
        after = [requests_of(server) for server in servers]
        requests[name].append(sum(after) - sum(before))

    for number in range(COPIES):
        named = f"{what} {number}"
        fill(client, client.create_experiment(named))
        theirs = lambda: export_and_import(named, source.url, target.url, folder)  # noqa: B023, E731
        ours = lambda: call(*MIRROR, named, "--from", source.url, "--to", target.url)  # noqa: B023, E731
        order = [("theirs", theirs), ("ours", ours)]
        for name, copy in order if number % 2 == 0 else order[::-1]:
            measure(name, copy)
        measure("again", ours)
    seconds = {name: median(found) for name, found in times.items()}
    sent = {name: median(found) for name, found in requests.items()}
    return [
        row(f"{what}: mirror, export-import", seconds["theirs"], seconds["ours"], "s", 0.5),
        row(f"{what}: the same", sent["theirs"], sent["ours"], "requests", 1.0),
        row(f"{what}: mirror again, new", seconds["ours"], seconds["again"], "s", 1.0),
        row(f"{what}: the same", sent["ours"], sent["again"], "requests", 1.0),
    ]


def row(what: str, plain: float, ours: float, unit: str, most: float) -> Row:
    """Return a row whose aim is a ratio."""
    return Row(what, plain, ours, unit, f"{most} times", ours <= most * plain)


def requests_of(server: MlflowServer) -> int:
    """Return the number of requests that a server has answered, from its log."""
    return server.log.read_text(errors="replace").count(" HTTP/1.1")


def export_and_import(name: str, source: str, target: str, folder: Path) -> None:
    """Copy with mlflow-export-import, under another name."""
    files = str(folder / f"export {time.time_ns()}")
    commands = Path(sys.executable).parent
    call(
        *(str(commands / "export-experiment"), "--experiment", name, "--output-dir", files),
        MLFLOW_TRACKING_URI=source,
    )
    call(
        *(str(commands / "import-experiment"), "--input-dir", files),
        *("--experiment-name", f"{name} imported"),
        MLFLOW_TRACKING_URI=target,
    )


def call(*command: str, **more: str) -> None:
    """Run a command that must succeed."""
    environment: Mapping[str, str] = {**os.environ, **more}
    subprocess.run(
        command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


if __name__ == "__main__":
    main()
