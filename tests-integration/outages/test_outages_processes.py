"""Processes that end abruptly, and a notebook, in front of each server that is down."""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import mlflow
import pytest
from trainings import Program, dead_letters

from mlflow_connections_sandbox import MlflowServer

STEPS = list(range(20))
SERVERS = ["plain", "http", "databricks", "azureml"]


def only_run(server: MlflowServer, experiment: str) -> Any:
    """Return the one run of an experiment."""
    client = mlflow.MlflowClient(server.url, server.url)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    return run


def steps(server: MlflowServer, run: Any, key: str) -> list[int]:
    """Return the steps of a metric."""
    points = mlflow.MlflowClient(server.url).get_metric_history(run.info.run_id, key)
    return sorted(point.step for point in points)


@pytest.mark.slow
@pytest.mark.parametrize(("end", "code"), [("exit", 3), ("sigterm", -15)])
@pytest.mark.parametrize("name", SERVERS)
def test_a_process_that_ends_abruptly_loses_nothing(
    name: str,
    end: str,
    code: int,
    make_server: Callable[[str], Any],
    ship: Callable[..., dict[str, Any]],
    outbox: Path,
    mlflow_server: MlflowServer,
    tmp_path: Path,
) -> None:
    """Values that threads, a fork and a spawned process logged to one run all arrive, once."""
    server = make_server(name)
    experiment = server.experiment(f"{name} ends by {end}")
    server.fail("refuses")
    process = Program(tmp_path).start("", "processes", experiment, end, server.option)
    _, error = process.communicate()
    assert process.returncode == code, error
    server.recover()
    report = ship()
    assert (report["waiting"], dead_letters(outbox)) == (0, [])
    run = only_run(mlflow_server, experiment)
    names = [*(f"thread_{n}" for n in range(4)), "fork", "main", *["spawn"] * (end == "exit")]
    assert sorted(run.data.metrics) == sorted(names)
    for each in names:
        assert steps(mlflow_server, run, each) == STEPS
    assert run.info.status == "RUNNING"


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVERS)
def test_a_notebook_logs_as_a_script_does(
    name: str,
    make_server: Callable[[str], Any],
    ship: Callable[..., dict[str, Any]],
    outbox: Path,
    mlflow_server: MlflowServer,
    tmp_path: Path,
) -> None:
    """A real kernel logs over several cells without the server, and reads its own values back."""
    nbformat: Any = import_module("nbformat")
    nbclient: Any = import_module("nbclient")
    server = make_server(name)
    experiment = server.experiment(f"{name} notebook")
    begin = f"""
import mlflow, mlflow_connections
mlflow_connections.use("durable", options={{"server": {server.option!r}}})
mlflow.set_experiment({experiment!r})
run = mlflow.start_run()
"""
    log = "for step in range(20): mlflow.log_metric('loss', 1.0, step=step)"
    end = """
mlflow.log_text("hello", "hello.txt")
mlflow.end_run()
mlflow.get_run(run.info.run_id).data.metrics
"""
    cells = (begin, log, end)
    server.fail("refuses")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert "'loss': 1.0" in str(notebook.cells[2].outputs)
    assert any(os.scandir(outbox))
    server.recover()
    report = ship()
    assert (report["waiting"], dead_letters(outbox)) == (0, [])
    run = only_run(mlflow_server, experiment)
    assert steps(mlflow_server, run, "loss") == STEPS
    # MLflow 2.22 resolves proxied artifacts by it.
    mlflow.set_tracking_uri(mlflow_server.url)
    client = mlflow.MlflowClient(mlflow_server.url)
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["hello.txt"]
    assert run.info.status == "FINISHED"
