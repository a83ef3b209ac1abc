"""Stores that MLflow recognizes by their URI are duplicated without changing it."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mlflow

from mlflow_connections_sandbox._databand import Databand
from mlflow_connections_sandbox._databricks import Databricks

Duplicate = Callable[[str], Any]
Deliver = Callable[[], None]


def test_databricks_keeps_its_uri_and_is_copied(
    workspace: Databricks,
    tracker: Databand,
    duplicate: Duplicate,
    deliver: Deliver,
    tmp_path: Path,
) -> None:
    """Only data logged inside the connection is copied, and the tracking URI is `databricks`."""
    experiment = tmp_path.name
    mlflow.set_tracking_uri("databricks")
    mlflow.set_experiment(f"/Users/{experiment}")
    with mlflow.start_run(run_name="before"):
        mlflow.log_metric("m", 1.0)
    with duplicate("databricks"):
        assert mlflow.get_tracking_uri() == "databricks"
        with mlflow.start_run(run_name="inside"):
            mlflow.log_metric("m", 1.0)
    with mlflow.start_run(run_name="after"):
        mlflow.log_metric("m", 1.0)
    deliver()
    assert [run["name"] for run in tracker.runs()] == ["inside"]


def test_a_child_process_is_copied_too(
    workspace: Databricks,
    tracker: Databand,
    duplicate: Duplicate,
    tmp_path: Path,
    warm_python: str,
) -> None:
    """The environment alone makes a new process duplicate, as it sets its tracking URI."""
    script = (
        "import mlflow\n"
        f"mlflow.set_experiment('/Users/{tmp_path.name}')\n"
        "with mlflow.start_run(run_name='child'):\n"
        "    mlflow.log_metric('m', 1.0)\n"
    )
    with duplicate("databricks"):
        subprocess.run([warm_python, "-c", script], check=True, env=dict(os.environ))
    assert [run["name"] for run in tracker.runs()] == ["child"]


def test_any_store_keeps_its_uri_if_the_variable_is_set(
    tracker: Databand, sqlite_uri: str, warm_python: str
) -> None:
    """With the variable set before MLflow is imported, runs are copied without a composite tracking URI."""
    script = (
        "import mlflow\n"
        "with mlflow.start_run(run_name='kept'):\n"
        "    mlflow.log_metric('m', 1.0)\n"
        "print(mlflow.get_tracking_uri())\n"
    )
    composite = (
        f"dbnd://127.0.0.1:{tracker.port}?duplicate_tracking_to={quote(sqlite_uri, safe='')}"
    )
    environment = {
        **os.environ,
        **tracker.environment(),
        "MLFLOW_TRACKING_URI": sqlite_uri,
        "MLFLOW_CONNECTIONS_DATABAND": composite,
    }
    printed = subprocess.run(
        [warm_python, "-c", script],
        check=True,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    assert printed.strip() == sqlite_uri
    assert [run["name"] for run in tracker.runs()] == ["kept"]
