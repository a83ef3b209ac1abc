"""Fixtures of the tests of durable: a real server behind a proxy that can fail, and a comparison of two servers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trainings import Program, described, put_aside

from mlflow_connections_sandbox import MlflowServer


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


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Runs programs that use MLflow."""
    return Program(tmp_path)


@pytest.fixture(scope="session")
def plain_training(
    mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The runs of the program `train` without durable, described once for the session."""
    name = "plain training"
    Program(tmp_path_factory.mktemp("plain")).run(mlflow_server.url, "train", name)
    return described(mlflow_server.url, name)


@pytest.fixture(name="put_aside")
def put_aside_fixture() -> Callable[..., None]:
    """Rename an experiment and a registered model of a server, so that their names are available."""
    return put_aside


Described = Callable[..., dict[str, Any]]


@pytest.fixture(name="described")
def described_fixture() -> Described:
    """The description of the whole experiment."""
    return described
