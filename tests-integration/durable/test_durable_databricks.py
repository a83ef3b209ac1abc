"""Durable in front of Databricks: its tracking URI stays, and a later delivery gets its credentials."""

import time
from typing import Any

import mlflow
import pytest
from mlflow.utils import mlflow_tags

import mlflow_connections
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
    # The first MLflow 3 cannot be kept from printing links with provisional IDs.
    can_hide = hasattr(mlflow_tags, "MLFLOW_RUN_TYPE_GENAI_EVALUATE")
    assert ("/ml/experiments/" in done.stdout) == (mlflow.__version__ >= "3" and not can_hide)
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


def test_a_model_is_registered_once_the_workspace_is_back(
    workspace: Databricks, program: Any, mlflow_server: MlflowServer
) -> None:
    """Unity Catalog gets the model, its alias and its tag, though the workspace was down all the time."""
    name = "main.default.doubling"
    workspace.close()
    # MLflow 3 takes Unity Catalog by itself, unless another registry is named.
    program.run_through(
        *(*THROUGH, "models", "/Shared/registers", name), MLFLOW_REGISTRY_URI="databricks-uc"
    )
    workspace.start()
    report = program.ship()
    assert (report["waiting"], report["rejected"]) == (0, 0)
    client = mlflow.MlflowClient(mlflow_server.url, mlflow_server.url)
    version = client.get_model_version_by_alias(name, "champion")
    assert version.tags["checked"] == "yes"
    assert [each.version for each in client.search_model_versions(f"name = '{name}'")] == ["1"]
    with mlflow_connections.use("databricks", registry="databricks-uc"):
        model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    assert model.predict([1.0]) == [2.0]
