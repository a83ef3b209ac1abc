"""A changed server: restored from a backup, set up again, with deleted or other experiments."""

import json
import logging
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections_sandbox import MlflowServer

# No MLflow version has all attributes of another.
mlflow: Any = import_module("mlflow")
IS_2 = mlflow.__version__.startswith("2.")


@pytest.fixture(scope="module")
def other_server(
    start_server: Callable[[Path], MlflowServer], tmp_path_factory: pytest.TempPathFactory
) -> MlflowServer:
    """The same server on another day: it has none of the runs, and other experiments under their IDs."""
    server = start_server(tmp_path_factory.mktemp("other"))
    client = mlflow.MlflowClient(server.url)
    for number in range(30):
        client.create_experiment(f"another {number}")
    return server


def runs_of(server: MlflowServer, experiment: str) -> dict[str, Any]:
    """Return the runs of an experiment by name; names are unique."""
    client = mlflow.MlflowClient(server.url)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    named = {run.info.run_name: run for run in runs}
    assert len(named) == len(runs)
    return named


def history(server: MlflowServer, run: Any) -> list[int]:
    """Return the steps of the metric `loss`."""
    points = mlflow.MlflowClient(server.url).get_metric_history(run.info.run_id, "loss")
    return sorted(point.step for point in points)


def test_a_server_from_an_older_backup_gets_all_new_data(
    proxy: Any,
    program: Any,
    mlflow_server: MlflowServer,
    other_server: MlflowServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Acknowledged runs that it lost continue in new ones, in the right experiment, with a message."""
    mlflow.set_tracking_uri(f"durable+{proxy.url}")
    mlflow.set_experiment("restored")
    with mlflow.start_run(run_name="goes on") as run:
        mlflow.log_param("early", "1")
        mlflow.log_metric("loss", 1.0, step=0)
        program.ship()
        assert history(mlflow_server, runs_of(mlflow_server, "restored")["goes on"]) == [0]
        proxy.mode = "down"
        mlflow.log_metric("loss", 0.5, step=1)
        mlflow.log_text("hello", "notes/hello.txt")
        with mlflow.start_run(run_name="child", nested=True):
            mlflow.log_metric("loss", 0.1, step=0)
        mlflow.set_tag("own", run.info.run_id)
        proxy.target = other_server.url.removeprefix("http://")
        proxy.mode = "up"
        report = program.ship()
        assert (report["waiting"], report["rejected"]) == (0, 0)
        mlflow.log_metric("loss", 0.25, step=2)
        program.ship()
        with caplog.at_level(logging.WARNING):
            mlflow.end_run()
    program.ship()
    found = runs_of(other_server, "restored")
    assert sorted(found) == ["child", "goes on"]
    real = found["goes on"].info.run_id
    assert real != run.info.run_id
    assert history(other_server, found["goes on"]) == [1, 2]
    assert found["goes on"].info.status == "FINISHED"
    assert found["goes on"].data.tags["own"] == real
    assert found["child"].data.tags["mlflow.parentRunId"] == real
    client = mlflow.MlflowClient(other_server.url)
    assert [file.path for file in client.list_artifacts(real, "notes")] == ["notes/hello.txt"]
    (told,) = (r.getMessage() for r in caplog.records if "has lost the run" in r.getMessage())
    assert run.info.run_id in told
    assert real in told
    rows = json.loads(program.outbox("runs", "--output", "json"))
    assert (run.info.run_id, real) in [(row["id"], row["server_id"]) for row in rows]


@pytest.mark.slow
def test_an_experiment_with_another_id_is_found_by_its_name(
    proxy: Any, program: Any, mlflow_server: MlflowServer, other_server: MlflowServer
) -> None:
    """A run that begins without the server goes to the named experiment, not to the one with its ID."""
    mlflow.set_tracking_uri(f"durable+{proxy.url}")
    known = mlflow.set_experiment("renumbered").experiment_id
    client = mlflow.MlflowClient(other_server.url)
    assert client.get_experiment(known).name != "renumbered"
    there = client.create_experiment("renumbered")
    proxy.mode = "down"
    with mlflow.start_run(run_name="first"):
        mlflow.log_metric("loss", 1.0, step=0)
    proxy.target = other_server.url.removeprefix("http://")
    proxy.mode = "up"
    program.ship()
    (run,) = runs_of(other_server, "renumbered").values()
    assert run.info.experiment_id == there
    assert history(other_server, run) == [0]


@pytest.mark.slow
def test_a_renamed_experiment_is_the_same(
    proxy: Any, program: Any, mlflow_server: MlflowServer
) -> None:
    """A run that begins while somebody renames its experiment is in it, and no second one is created."""
    mlflow.set_tracking_uri(f"durable+{proxy.url}")
    known = mlflow.set_experiment("before").experiment_id
    proxy.mode = "down"
    with mlflow.start_run(run_name="first"):
        mlflow.log_metric("loss", 1.0, step=0)
    client = mlflow.MlflowClient(mlflow_server.url)
    client.rename_experiment(known, "after")
    proxy.mode = "up"
    program.ship()
    assert list(runs_of(mlflow_server, "after")) == ["first"]
    assert client.get_experiment_by_name("before") is None


def test_a_deleted_experiment_keeps_waiting_events_until_it_is_restored(
    proxy: Any, program: Any, described: Any, mlflow_server: MlflowServer
) -> None:
    """Everything is kept with one reason; after it is restored, a retry delivers all of it, including nested runs."""
    mlflow.set_tracking_uri(f"durable+{proxy.url}")
    known = mlflow.set_experiment("deleted").experiment_id
    proxy.mode = "down"
    with mlflow.start_run(run_name="parent"):
        mlflow.log_param("alpha", "1")
        mlflow.log_metric("loss", 1.0, step=0)
        mlflow.log_text("hello", "hello.txt")
        with mlflow.start_run(run_name="child", nested=True):
            mlflow.log_metric("loss", 0.5, step=1)
    client = mlflow.MlflowClient(mlflow_server.url)
    client.delete_experiment(known)
    proxy.mode = "up"
    report = program.ship(code=1)
    assert report["waiting"] == 0
    assert report["rejected"] > 5
    (letters,) = (path.read_text() for path in program.folder.rglob("dead_letters.jsonl"))
    reasons = {json.loads(line)["reason"] for line in letters.splitlines()}
    assert reasons == {
        "The experiment 'deleted' is deleted at the destination: restore it, then retry."
    }
    client.restore_experiment(known)
    program.outbox("retry", code=1)
    report = program.ship()
    assert (report["waiting"], report["rejected"]) == (0, 0)
    found = runs_of(mlflow_server, "deleted")
    assert sorted(found) == ["child", "parent"]
    assert found["child"].data.tags["mlflow.parentRunId"] == found["parent"].info.run_id
    assert history(mlflow_server, found["parent"]) == [0]
    assert {run.info.status for run in found.values()} == {"FINISHED"}


@pytest.mark.slow
def test_a_child_of_a_refused_run_finds_its_parent_later(
    proxy: Any, program: Any, mlflow_server: MlflowServer
) -> None:
    """The child arrives; once its parent is accepted in a retry, it is nested in it."""
    mlflow.set_tracking_uri(f"durable+{proxy.url}")
    refused = mlflow.set_experiment("refuses").experiment_id
    mlflow.set_experiment("accepts")
    proxy.mode = "down"
    with mlflow.start_run(experiment_id=refused, run_name="parent"):
        mlflow.log_metric("loss", 1.0, step=0)
        client = mlflow.MlflowClient()
        accepts = client.get_experiment_by_name("accepts").experiment_id
        tags = {"mlflow.parentRunId": mlflow.active_run().info.run_id}
        child = client.create_run(accepts, tags=tags, run_name="child")
        client.log_metric(child.info.run_id, "loss", 0.5, step=1)
    server = mlflow.MlflowClient(mlflow_server.url)
    server.delete_experiment(refused)
    proxy.mode = "up"
    assert program.ship(code=1)["rejected"] > 0
    assert history(mlflow_server, runs_of(mlflow_server, "accepts")["child"]) == [1]
    server.restore_experiment(refused)
    program.outbox("retry", code=1)
    program.ship()
    parent = runs_of(mlflow_server, "refuses")["parent"]
    tags = runs_of(mlflow_server, "accepts")["child"].data.tags
    assert tags["mlflow.parentRunId"] == parent.info.run_id


@pytest.mark.slow
@pytest.mark.skipif(IS_2, reason="logged models came with MLflow 3")
def test_a_logged_model_that_the_server_lost_is_logged_again(
    proxy: Any, program: Any, mlflow_server: MlflowServer, other_server: MlflowServer
) -> None:
    """A model that was begun before the backup and finished after it exists, ready."""
    mlflow.set_tracking_uri(f"durable+{proxy.url}")
    mlflow.set_experiment("lost models")
    with mlflow.start_run(run_name="models"):
        model = mlflow.initialize_logged_model(name="tree", params={"depth": "3"})
        program.ship()
        proxy.target = other_server.url.removeprefix("http://")
        mlflow.finalize_logged_model(model.model_id, "READY")
    report = program.ship()
    assert (report["waiting"], report["rejected"]) == (0, 0)
    client = mlflow.MlflowClient(other_server.url)
    experiment = client.get_experiment_by_name("lost models")
    (found,) = client.search_logged_models([experiment.experiment_id])
    assert (found.name, found.status.name, found.params) == ("tree", "READY", {"depth": "3"})
    (run,) = runs_of(other_server, "lost models").values()
    assert found.source_run_id == run.info.run_id
