"""A copy of a workspace's runs for Databand: AzureML's own clients are unaffected."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._azure import Azure
from mlflow_connections_sandbox.databand import Databand, compare


def test_azureml_keeps_its_uri_and_is_copied(
    workspace: Azure,
    mlflow_server: MlflowServer,
    tracker: Databand,
    run_script: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """The tracking URI and the artifacts stay AzureML's, and the tracker has the whole run."""
    read = run_script(
        "log_copied.py",
        MY_DATABAND=tracker.url,
        MY_DATABAND_TOKEN=tracker.account.token,
        MLFLOW_CONNECTIONS_OUTBOX_DIR=str(tmp_path / "outbox"),
    )
    assert read["tracking_uri"] == read["workspace"]
    assert read["tracking_uri"].startswith("azureml://")
    assert read["note"] == "a note"
    assert [run["name"] for run in tracker.runs()] == ["copied"]
    # MLflow 2 looks for a server's artifacts at the current URI, whatever the client's URI is.
    mlflow.set_tracking_uri(mlflow_server.url)
    assert compare(mlflow_server.url, tracker, "copied") == []
    assert workspace.journal.requests("/runs/log-metric")
