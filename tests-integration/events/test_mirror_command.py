"""`mlflow-connections mirror`: existing runs arrive on another server, equal, and each once."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_connections_events.testing import describe, differences
from mlflow_connections_sandbox import MlflowServer

# Of several MLflows none knows all the attributes of another.
mlflow: Any = import_module("mlflow")


def mirror(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "mlflow_connections", "mirror", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A server with an experiment `wine`: nested runs, files, a deleted run, a registered model."""
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'source.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("wine")
    with mlflow.start_run(run_name="parent") as run:
        mlflow.log_params({"alpha": 0.5, "api_key": "faithful"})
        for step in range(30):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_text("hello", "notes/hello.txt")
        with mlflow.start_run(run_name="child", nested=True):
            mlflow.log_metric("loss", float("nan"))
    client = MlflowClient()
    deleted = client.create_run(run.info.experiment_id, run_name="deleted")
    client.delete_run(deleted.info.run_id)
    return uri


def test_an_experiment_arrives_whole_and_is_not_doubled(
    source: str, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    """Run by run everything is equal, unmasked, and a second copy only brings it up to date."""
    mlflow.set_tracking_uri(source)
    name = f"wine {tmp_path.name}"
    MlflowClient(source).rename_experiment("1", name)
    target = mlflow_server.url
    command = (name, "--from", source, "--to", target, "--output", "json")
    assert mirror(*command).returncode == 0
    done = mirror(*command)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["rejected"] == []
    assert (report["metrics"], report["files"]) == (31, 1)
    arrived = describe(target, experiments=[name])
    assert differences(describe(source, experiments=[name]), arrived) == []
    assert len(arrived["runs"]) == len(report["runs"]) == 3


def test_what_cannot_be_copied_is_said_in_one_sentence(source: str) -> None:
    """A name that nothing has, and one server named twice."""
    for arguments, message in (
        (("beer", "--from", source, "--to", "sqlite:///other.db"), "neither a run nor an exp"),
        (("wine", "--from", source, "--to", source), "name the same server"),
    ):
        done = mirror(*arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
