"""Copying while the command is killed at random moments, and into PostgreSQL."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_connections_events.testing import describe, differences
from mlflow_connections_sandbox import MlflowServer

# No MLflow version has all attributes of another.
mlflow: Any = import_module("mlflow")
# MLflow 3.5 rounds a duration again when spans are logged again.
ROUNDED = ["traces/*/duration"] if mlflow.__version__.startswith("3.5.") else []

pytestmark = pytest.mark.slow


def mirror(*arguments: str) -> "subprocess.Popen[str]":
    """Start the command."""
    return subprocess.Popen(
        [sys.executable, "-m", "mlflow_connections", "mirror", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def copied(url: str, experiment: str) -> int:
    """Return the number of runs that have arrived."""
    client = MlflowClient(url)
    found = client.get_experiment_by_name(experiment)
    return len(client.search_runs([found.experiment_id])) if found else 0


def test_a_copy_that_is_killed_repeatedly_duplicates_nothing(
    log_traces: Callable[[str], None],
    mlflow_server: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command is killed whenever two more runs have arrived, and finally everything is equal."""
    monkeypatch.chdir(tmp_path)
    name = f"killed {tmp_path.name}"
    source = f"sqlite:///{tmp_path / 'source.db'}"
    mlflow.set_tracking_uri(source)
    mlflow.set_experiment(name)
    client = MlflowClient()
    client.create_registered_model(name)
    for number in range(8):
        with mlflow.start_run(run_name=f"run {number}") as run:
            mlflow.log_param("number", number)
            for step in range(20):
                mlflow.log_metrics({"loss": 1 / (step + 1), "nan": float("nan")}, step=step)
            mlflow.log_text("x" * 1_000, "a.txt")
            client.create_model_version(name, f"{run.info.artifact_uri}/a.txt", run.info.run_id)
    log_traces(name)
    command = (name, "--from", source, "--to", mlflow_server.url)
    for target in (1, 3, 6):
        started = mirror(*command)
        while copied(mlflow_server.url, name) < target and started.poll() is None:
            time.sleep(0.02)
        started.send_signal(signal.SIGKILL)
        started.communicate()
        assert started.returncode == -signal.SIGKILL
    done = mirror(*command)
    _, errors = done.communicate()
    assert done.returncode == 0, errors
    expected = describe(source, experiments=[name])
    arrived = describe(mlflow_server.url, experiments=[name])
    assert differences(expected, arrived, ignore=ROUNDED) == []
    assert len(arrived["runs"]) == 9


def test_a_training_arrives_in_postgresql_and_is_not_duplicated(
    train: Callable[[str, Path], None],
    log_traces: Callable[[str], None],
    postgresql: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The database refuses a repeated write with its own error, which counts as success."""
    monkeypatch.chdir(tmp_path)
    name = f"wine {tmp_path.name}"
    source = f"sqlite:///{tmp_path / 'source.db'}"
    mlflow.set_tracking_uri(source)
    train(name, tmp_path)
    log_traces(name)
    expected = describe(source, experiments=[name])
    for _ in range(2):
        done = mirror(name, "--from", source, "--to", postgresql)
        output, errors = done.communicate()
        assert done.returncode == 0, output + errors
        arrived = describe(postgresql, experiments=[name])
        assert differences(expected, arrived, ignore=ROUNDED) == []
