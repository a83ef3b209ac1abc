"""Two identities on one workspace: each block's requests carry its own, whatever MLflow has cached."""

import os
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mlflow_connections import BoundaryError, use
from mlflow_connections_sandbox._databricks import Databricks


@pytest.fixture
def principals(workspace: Databricks) -> list[dict[str, Any]]:
    """The credentials of two service principals of one workspace."""
    access = workspace.access
    return [
        {"client_id": access.client_id, "client_secret": access.client_secret},
        {"client_id": access.other_client_id, "client_secret": access.other_client_secret},
    ]


def callers(workspace: Databricks) -> set[str]:
    """Return the identities that have sent requests since the last call."""
    found = set(workspace.access.used_by)
    workspace.access.used_by.clear()
    return found


def test_two_service_principals_each_fetch_a_token(
    workspace: Databricks, principals: list[dict[str, Any]]
) -> None:
    """In sequence, nested and alone, every request has the identity in force."""
    options = {"host": workspace.url}
    first, second = principals
    for principal in (first, second, first):
        with use("databricks", principal, options):
            mlflow.search_experiments()
        assert callers(workspace) == {principal["client_id"]}
    with use("databricks", first, options):
        mlflow.search_experiments()
        with use("databricks", second, options):
            mlflow.search_experiments()
            callers_inside = callers(workspace)
        mlflow.search_experiments()
    assert callers_inside == {first["client_id"], second["client_id"]}
    assert callers(workspace) == {first["client_id"]}
    assert len(workspace.journal.requests("/oidc/v1/token")) == 6


def test_another_identity_is_another_server_while_a_run_is_active(
    name: str, workspace: Databricks, principals: list[dict[str, Any]]
) -> None:
    """The URI is the same, but the run's next metric would be sent with another identity."""
    options = {"host": workspace.url}
    with use("databricks", principals[0], options):
        mlflow.set_experiment(name)
        with mlflow.start_run():
            with pytest.raises(BoundaryError, match="is active on databricks"):
                use("databricks", principals[1], options)
            mlflow.log_metric("m", 1)
            with use("databricks", principals[0], options):
                mlflow.log_metric("m", 2)
    assert callers(workspace) == {principals[0]["client_id"]}


def test_a_token_stays_with_its_workspace(
    workspace: Databricks, token: Any, servers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a block for another server no variable of the workspace is set; after it, all are restored."""
    monkeypatch.chdir(tmp_path)
    with use("databricks", token.credentials, token.options):
        with use(servers.http):
            assert not [variable for variable in os.environ if variable.startswith("DATABRICKS_")]
            with mlflow.start_run() as run:
                pass
        stored = mlflow.MlflowClient(servers.http).get_run(run.info.run_id)
        assert stored.info.status == "FINISHED"
        mlflow.search_experiments()
    assert callers(workspace) == {"token"}
    assert not [variable for variable in os.environ if variable.startswith("DATABRICKS_")]


def test_queued_data_is_sent_to_its_own_server(
    servers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asynchronous metrics are on their own server when the block ends."""
    monkeypatch.chdir(tmp_path)
    with use(servers.http):
        mlflow.set_experiment("queued")
        with mlflow.start_run() as run:
            for step in range(20):
                mlflow.log_metric("m", step, step=step, synchronous=False)
    with use(servers.a):
        mlflow.set_experiment("queued")
        assert len(mlflow.search_runs(experiment_names=["queued"], output_format="list")) == 0
    history = mlflow.MlflowClient(servers.http).get_metric_history(run.info.run_id, "m")
    assert [metric.value for metric in history] == list(range(20))


# MLflow 2.22 stores no spans with the newest opentelemetry, with or without a block.
if not mlflow.__version__.startswith("2."):

    def test_a_trace_is_on_the_server_it_was_recorded_on(servers: Any) -> None:
        """Spans that MLflow exports in the background are sent before the block ends."""
        with use(servers.http):
            experiment = mlflow.set_experiment("traced")
            with mlflow.start_span("step"):
                pass
        with use(servers.http):  # MLflow reads a trace's spans from the server in force
            client = mlflow.MlflowClient(servers.http)
            assert len(client.search_traces(experiment_ids=[experiment.experiment_id])) == 1


def test_mlflow_may_be_imported_inside_a_block(servers: Any, tmp_path: Path) -> None:
    """A process that imports MLflow in a block uses the block's server there, and none after it."""
    import subprocess
    import sys

    code = f"""
import os
import mlflow_connections
with mlflow_connections.use({servers.a!r}):
    import mlflow
    mlflow.set_experiment("imported-inside")
    with mlflow.start_run() as run:
        pass
    inside = mlflow.get_tracking_uri()
print(inside, mlflow.is_tracking_uri_set(), os.environ.get("MLFLOW_EXPERIMENT_ID"))
with mlflow_connections.use({servers.b!r}):
    with mlflow.start_run() as other:
        print(mlflow.get_experiment(other.info.experiment_id).name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines() == [f"{servers.a} False None", "Default"]
