"""The cost of a mirror to the code that logs, and the time of a copy of existing runs."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _ratio import Row, interleave, median, table
from mlflow import MlflowClient
from mlflow.entities import Metric

from mlflow_connections_mirror._uri import MirrorUri
from mlflow_connections_sandbox import MlflowServer

CALLS = 20
ROUNDS = 15
RUNS = 20
POINTS = 500


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["MLFLOW_CONNECTIONS_OUTBOX_DIR"] = str(folder / "outbox")
        os.environ["MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT"] = "0"
        primary = f"sqlite:///{folder / 'primary.db'}"
        with (
            MlflowServer(folder / "copy") as copy,
            MlflowServer(folder / "primary") as server,
        ):
            rows = [
                logging_row("SQLite", primary, copy.url),
                logging_row("a server", server.url, copy.url),
                *copy_rows(primary, copy.url),
            ]
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


def copy_rows(source: str, target: str) -> list[Row]:
    """Measure the command for runs that are new to the destination, and again for existing ones."""
    client = MlflowClient(source)
    experiment = client.create_experiment("copied")
    now = time.time_ns() // 1_000_000
    for _ in range(RUNS):
        run_id = client.create_run(experiment).info.run_id
        points = [Metric("loss", 1.0, now + step, step) for step in range(POINTS)]
        client.log_batch(run_id, points)
        client.set_terminated(run_id)
    command = [sys.executable, "-m", "mlflow_connections", "mirror", "copied"]
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        subprocess.run(
            [*command, "--from", source, "--to", target], check=True, stdout=subprocess.DEVNULL
        )
        seconds.append(time.perf_counter() - begun)
    what = f"mirror {RUNS} runs of {POINTS} values"
    return [
        Row(f"{what}, new", None, seconds[0], "s"),
        Row(f"{what}, again", seconds[0], seconds[1], "s", "less than new"),
    ]


if __name__ == "__main__":
    main()
