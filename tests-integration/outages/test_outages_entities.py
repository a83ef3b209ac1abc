"""All trainings, plain and through durable, in front of each server during all kinds of outages: both are equal."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from trainings import MEASURED, OF_MLFLOW, TIMINGS, dead_letters, described, put_aside, through

from mlflow_connections_events.testing import differences
from mlflow_connections_sandbox import MlflowServer

SERVE = Path(__file__).parent / "serve.py"
SERVICES = ("http", "databricks", "azureml")
FLAPS = 2.0
"""Seconds between the end and the return of a flapping server, and as many until its next end."""
Fault = Callable[[Any, Callable[[], bool], threading.Event], None]


def healthy(server: Any, has_begun: Callable[[], bool], ended: threading.Event) -> None:
    """Answer every request."""


def down(server: Any, has_begun: Callable[[], bool], ended: threading.Event) -> None:
    """Be down from start to end."""
    server.fail("refuses")


def flapping(server: Any, has_begun: Callable[[], bool], ended: threading.Event) -> None:
    """Be down every other two seconds."""
    is_down = False
    while not ended.wait(FLAPS):
        is_down = not is_down
        if is_down:
            server.fail("refuses")
        else:
            server.recover()


def credentials_replaced(
    server: Any, has_begun: Callable[[], bool], ended: threading.Event
) -> None:
    """Refuse all credentials and tokens once the training has begun."""
    while not has_begun() and not ended.wait(0.05):
        pass
    ended.wait(0.5)
    server.replace_credentials()


def count_runs(mlflow_url: str, experiment: str) -> int:
    """Return the number of an experiment's runs."""
    client = mlflow.MlflowClient(mlflow_url)
    found = client.get_experiment_by_name(experiment)
    return 0 if found is None else len(client.search_runs([found.experiment_id]))


def check(server: Any, training: Any, plain: Any, mlflow_url: str, **environment: str) -> None:
    """Deliver everything, and compare what has arrived with what arrives without durable."""
    report = training.ship(**environment)
    assert (report["waiting"], dead_letters(training.folder / "outbox")) == (0, [])
    experiment = server.experiment("everything")
    expected = plain.training(server.name)
    assert sorted(run.split("/")[-1] for run in expected["runs"]) == [
        *(
            "<generated>",
            "<generated>#2",
            "child",
            "deleted",
            "fails",
            "grid",
            "modelled",
            "parent",
        ),
        *["traced"] * server.has_traces,
    ]
    # Unity Catalog leaves the tag to MLflow's client.
    ignored = [*TIMINGS, *MEASURED, *(() if server.name == "databricks" else OF_MLFLOW)]
    found = differences(expected, described(mlflow_url, experiment, load=True), ignore=ignored)
    assert found == [], "\n".join(found)
    words = ("--", "models", "load", server.registered("doubling"))
    if server.name == "plain":
        loaded = training.run(mlflow_url, *words[1:], **environment)
    else:
        loaded = training.run_through(server.name, *words, **environment)
    assert loaded.stdout.splitlines()[-2:] == ["[2.0]", "[2.0]"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "pause"),
    [(healthy, "0"), (down, "0"), (flapping, "0.2"), (credentials_replaced, "0.1")],
    ids=lambda each: getattr(each, "__name__", ""),
)
@pytest.mark.parametrize("name", SERVICES)
def test_all_trainings_arrive_complete_and_once(
    name: str,
    fault: Fault,
    pause: str,
    make_server: Callable[[str], Any],
    training: Any,
    plain: Any,
    mlflow_server: MlflowServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever happens to the server and its credentials, it finally has the same data as without durable."""
    plain.training(name)
    server = make_server(name)
    experiment = server.experiment("everything")
    before = dict(server.stand_in.environment())
    ended = threading.Event()

    def has_begun() -> bool:
        return bool(count_runs(mlflow_server.url, experiment))

    thread = threading.Thread(target=fault, args=(server, has_begun, ended), daemon=True)
    thread.start()
    if fault is down:
        thread.join()
    options = ("durable", "--option", f"server={server.option}", "--")
    try:
        try:
            training.run_through(*options, *server.trainings(pause))
        finally:
            ended.set()
            thread.join()
        server.recover()
        if fault is credentials_replaced:
            while "does not accept the credentials" not in training.outbox("status", code=1):
                time.sleep(0.5)
            after = server.stand_in.environment()
            assert before != after
            for variable, value in after.items():
                monkeypatch.setenv(variable, value)
        check(server, training, plain, mlflow_server.url)
    finally:
        put_aside(mlflow_server.url, experiment, server.registered("doubling"))


class Served:
    """A stand-in and its MLflow server in a process of their own.

    Attributes:
        mlflow_url: The address of the MLflow server.
        environment: The variables of a client.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self._command = [sys.executable, str(SERVE), name, str(folder)]
        self.start()

    def start(self) -> None:
        """Start with the data of the folder."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        printed = json.loads(self._process.stdout.readline())
        self.mlflow_url: str = printed["mlflow_url"]
        self.environment: dict[str, str] = printed["environment"]
        self._group: int = printed["group"]

    def kill(self) -> None:
        """End all of its processes at once, as a crash of the machine does."""
        os.killpg(self._group, signal.SIGKILL)
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[str], Served]]:
    """Start servers in processes of their own."""
    started: list[Served] = []

    def served(name: str) -> Served:
        started.append(Served(name, tmp_path / "served"))
        return started[-1]

    yield served
    for each in started:
        each.kill()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", *SERVICES])
def test_all_trainings_arrive_though_the_server_is_killed(
    name: str,
    serve: Callable[[str], Served],
    make_server: Callable[[str], Any],
    training: Any,
    plain: Any,
) -> None:
    """A server that was killed in the middle and started again has the same data as without durable."""
    # Of its kind alone; what it serves is not used.
    server = make_server(name)
    plain.training(name)
    served = serve(name)
    option = served.mlflow_url if name == "plain" else name
    options = ("durable", "--option", f"server={option}", "--")
    environment = {**os.environ, **served.environment}
    process = subprocess.Popen(
        through(*options, *server.trainings("0.1")),
        cwd=training.folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(training.folder / "training.log").open("wb"),
    )
    while not count_runs(served.mlflow_url, server.experiment("everything")):
        assert process.poll() is None, (training.folder / "training.log").read_text()
        time.sleep(0.05)
    time.sleep(1.0)
    served.kill()
    assert process.poll() is None
    served.start()
    assert process.wait() == 0, (training.folder / "training.log").read_text()
    check(server, training, plain, served.mlflow_url, **served.environment)
