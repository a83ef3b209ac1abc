"""Training and shipper are killed repeatedly, and everything logged before a kill is on the server once."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_connections_sandbox import MlflowServer

KILLS = 12
STEPS = Path(__file__).parent / "steps.py"


def shippers(outbox: Path) -> list[int]:
    """Return the processes whose environment names this test's outbox and that deliver from it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
            if b"import_module(job" in words and str(outbox).encode() in environment:
                found.append(int(process.name))
    return found


@pytest.mark.slow
def test_kills_lose_and_double_nothing(
    proxy: Any, program: Any, outbox: Path, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    """Every step that a training printed after its call has arrived, each run is there once."""
    rng = random.Random(7)
    printed: dict[str, int] = {}
    for number in range(KILLS):
        proxy.mode = rng.choice(["up", "up", "down", "busy"])
        if rng.random() < 0.3:
            proxy.lose = ["/runs/log-batch"]
        output = tmp_path / f"{number}.txt"
        with output.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-u", str(STEPS), "kills", str(number)],
                env={**os.environ, "MLFLOW_TRACKING_URI": f"durable+{proxy.url}"},
                stdout=file,
                stderr=subprocess.DEVNULL,
            )
            while not output.read_text() and process.poll() is None:
                time.sleep(0.05)
            time.sleep(rng.random())
            for pid in shippers(outbox):
                if rng.random() < 0.5:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            process.kill()
            process.wait()
        lines = [line for line in output.read_text().split("\n")[:-1] if line.isdigit()]
        printed[f"run {number}"] = len(lines)
    proxy.mode, proxy.lose = "up", []
    report = program.ship()
    assert (report["waiting"], report["rejected"]) == (0, 0)
    client = MlflowClient(mlflow_server.url)
    experiment = client.get_experiment_by_name("kills")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1_000)
    names = [run.info.run_name for run in runs]
    assert len(names) == len(set(names))
    for run in runs:
        steps = [m.step for m in client.get_metric_history(run.info.run_id, "step")]
        name = str(run.info.run_name)
        # One more may have been logged whose line was not printed.
        assert printed[name] <= len(steps) <= printed[name] + 1, name
        assert sorted(steps) == list(range(len(steps)))
    assert {name for name, count in printed.items() if count} <= set(names)
    assert sum(printed.values()) > KILLS
