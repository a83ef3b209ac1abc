"""Durable in front of Databricks: its tracking URI stays, and a later delivery gets its credentials."""

import time
from typing import Any

import mlflow
import pytest

from mlflow_connections_events.testing import differences
from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._databricks import Databricks

THROUGH = ("durable", "--option", "server=databricks", "--")


def test_a_training_survives_a_workspace_that_is_down_and_an_expired_token(
    workspace: Databricks,
    program: Any,
    described: Any,
    plain_training: dict[str, Any],
    mlflow_server: MlflowServer,
) -> None:
    """Nothing waits for minutes as in Databricks' own client; the runs wait for a valid token, and arrive."""
    name = "/Shared/survives"
    workspace.close()
    done = program.run_through(*THROUGH, "train", name, DATABRICKS_TOKEN="expired")
    # Databricks' client would retry for 300 seconds.
    assert float(done.stdout.split()[-1]) < 100
    # MLflow 3 prints the link of a workspace, whose tracking URI stays; 2.22 prints none for a
    # store that waits.
    assert ("/ml/experiments/" in done.stdout) == (mlflow.__version__ >= "3")
    workspace.start()
    # That program's shipper continues with its credentials.
    while "does not accept the credentials" not in program.outbox("status", code=1):
        time.sleep(0.5)
    report = program.ship()
    assert (report["waiting"], report["rejected"]) == (0, 0)
    assert differences(plain_training, described(mlflow_server.url, name)) == []


@pytest.mark.slow
@pytest.mark.parametrize("account", ["token", "oauth"])
def test_a_healthy_workspace_issues_its_own_ids(
    account: str,
    workspace: Databricks,
    program: Any,
    described: Any,
    plain_training: dict[str, Any],
    mlflow_server: MlflowServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No ID is provisional, however long the import of Databricks' SDK takes, and everything arrives."""
    if account == "oauth":
        monkeypatch.delenv("DATABRICKS_TOKEN")
        monkeypatch.setenv("DATABRICKS_CLIENT_ID", workspace.access.client_id)
        monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", workspace.access.client_secret)
    name = f"healthy {account}"
    done = program.run_through(*THROUGH, "train", f"/Shared/{name}")
    assert "provisional" not in done.stderr
    report = program.ship()
    assert (report["waiting"], report["rejected"]) == (0, 0)
    assert differences(plain_training, described(mlflow_server.url, f"/Shared/{name}")) == []
