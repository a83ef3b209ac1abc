"""Training and shipper are killed repeatedly in front of each server, and everything logged before a kill is on the server once."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient, set_tracking_uri
from trainings import dead_letters, through

from mlflow_connections_sandbox import Fault, MlflowServer

KILLS = 50
EVERY = 20
"""The interval, in steps, at which a file and a param are logged."""


def shippers(outbox: Path) -> list[int]:
    """Return the processes that deliver from this test's outbox, according to their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
            if b"import_module(job" in words and str(outbox).encode() in environment:
                found.append(int(process.name))
    return found


def kill(pid: int) -> bool:
    """Kill a process with -9 and wait for its end; return whether it lived."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    with suppress(OSError):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.005)
    return True


class Trainings:
    """Starts processes that log for ever, each forked from one that has imported MLflow.

    Attributes:
        living: The process of each run, by its number.
        outputs: The file for the steps of each run.
    """

    def __init__(self, server: str, experiment: str, folder: Path) -> None:
        self._experiment, self._folder = experiment, folder
        self.living: dict[int, int] = {}
        self.outputs: dict[int, Path] = {}
        self._process = subprocess.Popen(
            through("durable", "--option", f"server={server}", "--", "steps", "serve"),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def start(self) -> None:
        """Start another one."""
        number = len(self.outputs)
        self.outputs[number] = self._folder / f"{number}.txt"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = f"{self._experiment}\t{number}\t{self.outputs[number]}"
        print(line, file=self._process.stdin, flush=True)
        self.living[number] = int(self._process.stdout.readline())

    def printed(self, number: int) -> int:
        """Return the number of steps that a run has printed."""
        path = self.outputs[number]
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return sum(line.isdigit() for line in lines)

    def close(self) -> None:
        """Kill all of them."""
        for pid in self.living.values():
            kill(pid)
        self._process.kill()
        self._process.communicate()


@pytest.fixture(params=["plain", "http", "databricks", "azureml"])
def server(request: pytest.FixtureRequest, make_server: Callable[[str], Any]) -> Any:
    """Each server in turn."""
    return make_server(request.param)


@pytest.fixture
def trainings(server: Any, outbox: Path, tmp_path: Path, seed: int) -> Iterator[Trainings]:
    """Starts trainings through durable."""
    started = Trainings(server.option, experiment_of(server, seed), tmp_path)
    yield started
    started.close()


def experiment_of(server: Any, seed: int) -> str:
    """Return the name of a test's experiment."""
    name: str = server.experiment(f"kills {server.name} {seed}")
    return name


@pytest.fixture(params=[7, None], ids=["committed", "random"])
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of a test: a fixed one, and a random one that is printed."""
    found = request.param if request.param is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {found}")
    return int(found)


@pytest.mark.slow
def test_kills_lose_and_duplicate_nothing(
    server: Any,
    training: Any,
    outbox: Path,
    trainings: Trainings,
    seed: int,
    mlflow_server: MlflowServer,
) -> None:
    """Every step that a training printed after its call has arrived, with files and params; each run exists once."""
    rng = random.Random(seed)
    kills: Counter[str] = Counter()
    # A shipper that has just begun may not be found.
    while kills.total() < KILLS or kills["shipper"] <= KILLS / 10:
        while len(trainings.living) < 2:
            trainings.start()
        server.recover()
        if how := rng.choice(["", "", "refuses", "503"]):
            server.fail(how)
        if rng.random() < 0.3:
            # The response is lost.
            server.stand_in.faults.inject(Fault("/runs/log-batch", truncate=0, times=1))
        time.sleep(rng.random())
        if rng.random() < 0.5:
            for pid in shippers(outbox):
                kills["shipper"] += kill(pid)
        else:
            oldest = min(trainings.living)
            # Some before their first step.
            while rng.random() < 0.9 and not trainings.printed(oldest):
                time.sleep(0.05)
            kills["training"] += kill(trainings.living.pop(oldest))
    trainings.close()
    server.recover()
    report = training.ship()
    print(kills, report)
    assert (report["waiting"], dead_letters(outbox)) == (0, [])
    printed = {f"run {number}": trainings.printed(number) for number in trainings.outputs}
    # MLflow 2.22 resolves proxied artifacts by it.
    set_tracking_uri(mlflow_server.url)
    client = MlflowClient(mlflow_server.url)
    experiment = client.get_experiment_by_name(experiment_of(server, seed))
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1_000)
    names = [str(run.info.run_name) for run in runs]
    assert len(names) == len(set(names))
    missing = {name for name, count in printed.items() if count} - set(names)
    everywhere = [each.experiment_id for each in client.search_experiments()]
    elsewhere = {
        str(run.info.run_name): run.info.experiment_id
        for run in client.search_runs(everywhere, max_results=1_000)
    }
    assert missing == set(), {name: elsewhere.get(name) for name in missing}
    for name, run in zip(names, runs, strict=True):
        steps = [m.step for m in client.get_metric_history(run.info.run_id, "step")]
        # One more may have been logged whose line was not printed.
        assert printed[name] <= len(steps) <= printed[name] + 1, name
        assert sorted(steps) == list(range(len(steps))), name
        whole = set(range(0, printed[name], EVERY))
        assert {f"at_{step}" for step in whole} <= set(run.data.params), name
        files = {file.path for file in client.list_artifacts(run.info.run_id, "steps")}
        assert {f"steps/{step}.txt" for step in whole} <= files, name
    assert kills["shipper"] > KILLS / 10
    assert kills["training"] > KILLS / 10
    assert sum(printed.values()) > KILLS
