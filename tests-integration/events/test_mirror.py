"""The keyword `mirror`: data logged to one server arrives on a second one too."""

import re
import subprocess
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

import mlflow_connections
from mlflow_connections_events.testing import describe, differences
from mlflow_connections_mirror._composite import parse
from mlflow_connections_sandbox import MlflowServer

# No MLflow version has all attributes of another.
mlflow: Any = import_module("mlflow")
pytestmark = pytest.mark.usefixtures("warm_path")

Train = Callable[[str, Path], None]


def deliver(seconds: float = 120.0) -> None:
    """Wait until everything is delivered, and fail the test if an event was refused."""
    deadline = time.monotonic() + seconds
    outbox = parse(mlflow.get_tracking_uri()).outbox()
    while left := outbox.flush(5.0):
        assert time.monotonic() < deadline, f"{left} events still wait"
        time.sleep(0.1)
    done = mlflow_connections_cli("outbox", "status", "--output", "json")
    assert done == 0


def mlflow_connections_cli(*arguments: str) -> int:
    """Run a command and return its exit code, which is 1 while events wait or were refused."""
    command = ["mlflow-connections", *arguments]
    return subprocess.run(command, check=False).returncode


def is_rounded(difference: str) -> bool:
    """Return whether the duration of a trace differs by one millisecond.

    MLflow sends a trace's spans and its end in two threads, and rounds the duration for each.
    """
    found = re.fullmatch(r"traces/.*/duration: (\d+) is (\d+)", difference)
    return found is not None and abs(int(found[1]) - int(found[2])) == 1


def test_a_training_is_copied_completely(
    train: Train,
    log_traces: Callable[[str], None],
    mlflow_server: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything that a training logs to a database is equal on a server, including files and secrets."""
    monkeypatch.chdir(tmp_path)
    name = f"mirrored {tmp_path.name}"
    primary = f"sqlite:///{tmp_path / 'primary.db'}"
    options = {"primary": primary, "copy": mlflow_server.url}
    with mlflow_connections.use("mirror", {}, options):
        train(name, tmp_path)
        log_traces(name)
        client = MlflowClient()
        client.create_registered_model(name, {"team": "red"})
        assert mlflow.get_tracking_uri().startswith("mirror://")
        deliver()
    expected = describe(primary, experiments=[name])
    arrived = describe(mlflow_server.url, experiments=[name])
    assert [each for each in differences(expected, arrived) if not is_rounded(each)] == []
    assert len(arrived["runs"]) == 5
    assert len(arrived["traces"]) == 3
    copy = MlflowClient(mlflow_server.url)
    assert copy.get_registered_model(name).tags == {"team": "red"}
