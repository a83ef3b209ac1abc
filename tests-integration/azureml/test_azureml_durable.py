"""Durable in front of a workspace: the run starts while it is down, and a later delivery gets its credential."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mlflow_connections_events.testing import describe
from mlflow_connections_sandbox import Fault, MlflowServer
from mlflow_connections_sandbox._azure import Azure


def ship(tmp_path: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Deliver everything, and return the command's report."""
    command = ("-m", "mlflow_connections", "outbox", "ship", "--timeout", "600", "--output", "json")
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = json.loads(done.stdout)
    found: dict[str, Any] = report
    return found


@pytest.mark.parametrize("is_down", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_run_arrives_complete(
    is_down: bool,
    workspace: Azure,
    mlflow_server: MlflowServer,
    run_script: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """The workspace is down while the run lives, and the shipper signs in itself once it is back."""
    if is_down:
        workspace.faults.inject(Fault("/mlflow/", status=503, body="busy"))
    outbox = {"MLFLOW_CONNECTIONS_OUTBOX_DIR": str(tmp_path / "outbox")}
    name = f"durable {is_down}"
    read = run_script("log_durably.py", name, **outbox)
    assert read["tracking_uri"].startswith("azureml://")
    assert read["artifact_uri"].startswith("durable:") == is_down
    assert read["note"] == "a note"
    workspace.faults.clear()
    report = ship(tmp_path, {**workspace.environment(), **outbox})
    assert (report["waiting"], report["rejected"]) == (0, 0)
    # MLflow 2 looks for a server's artifacts at the current URI, whatever the client's URI is.
    mlflow.set_tracking_uri(mlflow_server.url)
    runs = describe(mlflow_server.url, experiments=[name])["runs"]
    assert sorted(runs) == [f"{name}/child", f"{name}/parent"]
    parent = runs[f"{name}/parent"]
    assert parent["status"] == "FINISHED"
    assert sorted(point[0] for point in parent["metrics"]["loss"]) == list(range(20))
    assert "note.txt" in parent["files"]
    assert runs[f"{name}/child"]["tags"]["mlflow.parentRunId"] == f"<run {name}/parent>"
