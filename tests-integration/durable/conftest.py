"""Fixtures of the tests of durable: a real server behind a proxy that can fail, and a comparison of two servers."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_connections_events.testing import describe
from mlflow_connections_sandbox import MlflowServer

HERE = Path(__file__).parent


@pytest.fixture
def proxy(mlflow_server: MlflowServer, make_proxy: Callable[[str], Any]) -> Any:
    """A proxy in front of the real server of the session."""
    return make_proxy(mlflow_server.url)


@pytest.fixture(autouse=True)
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the outboxes of a test."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "outbox"))
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT", "0")
    return tmp_path / "outbox"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer for a server in this process: a busy machine is not an outage. Programs keep the default."""
    monkeypatch.setattr("mlflow_connections_durable._patience.DEADLINE_SECONDS", 60.0)
    monkeypatch.setattr("mlflow_connections_durable._mlflow.ATTEMPT_SECONDS", 60.0)


class Program:
    """Runs programs that use MLflow, in separate processes.

    Args:
        folder: Their working directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, uri: str, *arguments: str, **more: str) -> "subprocess.Popen[str]":
        """Start a program of this folder: its name without `.py`, and its arguments."""
        name, *rest = arguments
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, **more}
        return subprocess.Popen(
            [sys.executable, str(HERE / f"{name}.py"), *rest],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run_through(self, *command: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run `mlflow-connections run` with a keyword and options, `--`, and a program to its end."""
        at = command.index("--")
        connection, (name, *rest) = command[:at], command[at + 1 :]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "mlflow_connections", "run", *connection, "--"),
                *(sys.executable, str(HERE / f"{name}.py"), *rest),
            ],
            cwd=self.folder,
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done

    def run(self, uri: str, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end, which must be successful."""
        process = self.start(uri, *arguments, **more)
        out, error = process.communicate()
        assert process.returncode == 0, error
        return subprocess.CompletedProcess(process.args, 0, out, error)

    def outbox(self, *arguments: str, code: int = 0, **more: str) -> str:
        """Run `mlflow-connections outbox`, and return its output."""
        done = subprocess.run(
            [sys.executable, "-m", "mlflow_connections", "outbox", *arguments],
            cwd=self.folder,
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def ship(self, *arguments: str, code: int = 0, **more: str) -> Mapping[str, Any]:
        """Deliver everything, and return the command's report."""
        text = self.outbox(
            "ship", "--timeout", "600", "--output", "json", *arguments, code=code, **more
        )
        (report,) = json.loads(text)
        found: Mapping[str, Any] = report
        return found


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Runs programs that use MLflow."""
    return Program(tmp_path)


def described(uri: str, experiment: str, **more: Any) -> dict[str, Any]:
    """Describe the whole experiment, under one name for all experiments."""
    found = describe(uri, experiments=[experiment], exact=False, **more)
    plain: dict[str, Any] = json.loads(json.dumps(found).replace(experiment, "<experiment>"))
    return plain


@pytest.fixture(scope="session")
def plain_training(
    mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The runs of the program `train` without durable, described once for the session."""
    name = "plain training"
    Program(tmp_path_factory.mktemp("plain")).run(mlflow_server.url, "train", name)
    return described(mlflow_server.url, name)


def put_aside(uri: str, experiment: str, registered: str | None = None) -> None:
    """Rename the data of a program: the same names are needed again, since files contain them."""
    client = MlflowClient(uri, uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    client.rename_experiment(found.experiment_id, f"{experiment} {uuid.uuid4().hex}")
    if registered is not None:
        client.rename_registered_model(registered, f"{registered} {uuid.uuid4().hex}")


@pytest.fixture(name="put_aside")
def put_aside_fixture() -> Callable[..., None]:
    """Rename an experiment and a registered model of a server, so that their names are available."""
    return put_aside


Described = Callable[..., dict[str, Any]]


@pytest.fixture(name="described")
def described_fixture() -> Described:
    """The description of the whole experiment."""
    return described
