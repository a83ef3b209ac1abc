"""`mlflow-connections mirror`: existing runs arrive on another server, equal, and each once."""

import json
import subprocess
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
pytestmark = pytest.mark.usefixtures("warm_path")


def mirror(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command."""
    return subprocess.run(
        ["mlflow-connections", "mirror", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def name(tmp_path: Path) -> str:
    """The name of the source's experiment, unique to this test."""
    return f"wine {tmp_path.name}"


@pytest.fixture
def source(
    name: str, log_traces: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A server with an experiment that contains every kind of entity."""
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'source.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(name)
    with mlflow.start_run(run_name="parent") as run:
        mlflow.log_params({"alpha": 0.5, "api_key": "faithful"})
        for step in range(30):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_text("hello", "notes/hello.txt")
        with mlflow.start_run(run_name="child", nested=True):
            mlflow.log_metric("loss", float("nan"))
    client = MlflowClient()
    client.set_tag(run.info.run_id, "own", f"run {run.info.run_id}")
    deleted = client.create_run(run.info.experiment_id, run_name="deleted")
    client.log_param(deleted.info.run_id, "alpha", "1")
    client.delete_run(deleted.info.run_id)
    client.set_experiment_tag(run.info.experiment_id, "team", "red")
    client.set_experiment_tag(run.info.experiment_id, "mlflow.note.content", "About wine.")
    register(client, name, run.info)
    if not mlflow.__version__.startswith("2."):
        log_model_without_run(client, tmp_path)
    log_traces(name)
    return uri


def register(client: MlflowClient, name: str, run: Any) -> None:
    """Register two versions of a run's files, with everything that a registry stores."""
    client.create_registered_model(name, {"kind": "red"}, "A wine.")
    for number in (1, 2):
        client.create_model_version(
            name,
            f"{run.artifact_uri}/notes",
            run.run_id,
            {"number": str(number)},
            description=f"Version {number}.",
        )
    client.set_registered_model_alias(name, "best", "2")
    client.set_model_version_tag(name, "1", "checked", f"in run {run.run_id}")


def log_model_without_run(client: Any, folder: Path) -> None:
    """Log a model that belongs to no run, with files."""
    model = mlflow.initialize_logged_model(name="alone", params={"depth": "3"}, tags={"t": "1"})
    (folder / "weights.bin").write_bytes(b"\x00\x01\xff")
    client.log_model_artifact(model.model_id, str(folder / "weights.bin"))
    mlflow.finalize_logged_model(model.model_id, "READY")


def test_an_experiment_arrives_complete_and_is_not_duplicated(
    source: str, name: str, mlflow_server: MlflowServer
) -> None:
    """Everything is equal and unmasked, and a second copy only updates it."""
    target = mlflow_server.url
    command = (name, "--from", source, "--to", target, "--output", "json")
    first = mirror(*command)
    assert first.returncode == 0
    assert json.loads(first.stdout)["unchanged"] == {}
    expected = describe(source, experiments=[name])
    assert differences(expected, describe(target, experiments=[name])) == []
    change(MlflowClient(source), name)
    expected = describe(source, experiments=[name])
    done = mirror(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["rejected"] == []
    assert (report["metrics"], report["versions"], report["traces"]) == (32, 2, 3)
    arrived = describe(target, experiments=[name])
    # MLflow 3.5 rounds a duration again when spans are logged again.
    rounded = ["traces/*/duration"] if mlflow.__version__.startswith("3.5.") else []
    assert differences(expected, arrived, ignore=rounded) == []
    assert len(arrived["runs"]) == len(report["runs"]) == 4
    assert arrived["runs"][f"{name}/renamed"]["params"]["api_key"] == "faithful"


def change(client: MlflowClient, name: str) -> None:
    """Change copied entities."""
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (run,) = (run for run in runs if run.info.run_name == "parent")
    client.set_tag(run.info.run_id, "added", "later")
    client.log_metric(run.info.run_id, "loss", 0.01, step=30)
    client.update_run(run.info.run_id, name="renamed")
    client.set_experiment_tag(experiment.experiment_id, "team", "blue")
    client.update_registered_model(name, "Another wine.")
    client.update_model_version(name, "2", "The second.")
    client.set_model_version_tag(name, "2", "checked", "yes")
    client.set_registered_model_alias(name, "best", "1")


def test_an_impossible_copy_is_reported_in_one_sentence(tmp_path: Path) -> None:
    """An unknown name, one server named twice, and an experiment that was deleted on the destination are errors."""
    source, target = (f"sqlite:///{tmp_path / name}.db" for name in ("source", "target"))
    MlflowClient(source).create_experiment("wine", tmp_path.as_uri())
    client = MlflowClient(target)
    client.delete_experiment(client.create_experiment("wine", tmp_path.as_uri()))
    for arguments, message in (
        (("beer", "--from", source, "--to", target), "neither a run nor an experiment"),
        (("wine", "--from", source, "--to", source), "name the same server"),
        (("wine", "--from", source, "--to", target), "'wine' is deleted at the destination"),
    ):
        done = mirror(*arguments)
        assert done.returncode == 1
        assert message in done.stderr
        # MLflow 3.5 logs that it opens a database.
        said = [line for line in done.stderr.strip().splitlines() if " INFO " not in line]
        assert len(said) == 1, done.stderr
