"""MLflow's unmodified client with databricks-sdk, through the connection, in a workspace."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import requests
from databricks.sdk.version import __version__ as sdk_version
from sklearn.linear_model import LinearRegression

from mlflow_connections import use
from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._databricks import Databricks
from mlflow_connections_sandbox._page._view import pasted

# A name that needs careful quoting. The server of MLflow 3.5 itself returns 500 for a non-ASCII
# name: its WSGI bridge cannot write such a header.
HARD = "c+d.txt" if mlflow.__version__.startswith("3.5.") else "c+é.txt"


def log_model(registered_as: str | None = None) -> str:
    """Log a model that triples its input, and return its URI; MLflow 3 renamed the argument for its name."""
    model = LinearRegression().fit(np.array([[1.0], [2.0]]), np.array([3.0, 6.0]))
    named = "name" if int(mlflow.__version__.split(".")[0]) >= 3 else "artifact_path"
    arguments: dict[str, Any] = {
        named: "model",
        # They are given because inferring them takes MLflow many seconds.
        "pip_requirements": ["scikit-learn"],
        "registered_model_name": registered_as,
    }
    uri: str = mlflow.sklearn.log_model(model, **arguments).model_uri
    return uri


def predict(uri: str) -> float:
    """Load a model and let it triple two."""
    return float(mlflow.sklearn.load_model(uri).predict([[2.0]])[0])


@pytest.mark.parametrize("account", ["token", "oauth", "profile"])
def test_a_run_arrives_complete(
    account: str,
    name: str,
    workspace: Databricks,
    mlflow_server: MlflowServer,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    """With every kind of account, plain MLflow calls reach the server and read back unchanged."""
    given = request.getfixturevalue(account)
    local = tmp_path / "report.txt"
    local.write_text("done")
    with use("databricks", given.credentials, given.options) as endpoint:
        assert mlflow.get_tracking_uri() == endpoint.tracking_uri
        experiment = mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            mlflow.log_param("depth", 3)
            # A user's text that looks like the server's own location is unchanged.
            mlflow.log_param("source", "mlflow-artifacts:/1")
            mlflow.log_metric("rmse", 0.5, step=1)
            mlflow.log_metric("rmse", 0.25, step=2)
            mlflow.set_tag("stage", "test")
            mlflow.log_artifact(str(local), "reports of today")
            mlflow.log_text("", "empty.txt")
            with mlflow.start_run(nested=True) as child:
                mlflow.log_metric("fold", 1)
            model_uri = log_model()
        root = f"dbfs:/databricks/mlflow-tracking/{experiment.experiment_id}"
        assert experiment.artifact_location == root
        assert run.info.artifact_uri == f"{root}/{run.info.run_id}/artifacts"
        client = mlflow.MlflowClient()
        listed = client.list_artifacts(run.info.run_id)
        assert {"empty.txt", "reports of today"} <= {file.path for file in listed}
        assert [f.path for f in client.list_artifacts(run.info.run_id, "reports of today")] == [
            "reports of today/report.txt"
        ]
        uri = f"runs:/{run.info.run_id}/reports of today/report.txt"
        assert mlflow.artifacts.load_text(uri) == "done"
        folder = mlflow.artifacts.download_artifacts(run_id=run.info.run_id)
        assert (Path(folder) / "empty.txt").read_text() == ""
        assert predict(model_uri) == pytest.approx(6)

    # Read without Databricks in between.
    direct = mlflow.MlflowClient(tracking_uri=mlflow_server.url)
    stored = direct.get_run(run.info.run_id)
    assert stored.data.params == {"depth": "3", "source": "mlflow-artifacts:/1"}
    assert [m.value for m in direct.get_metric_history(run.info.run_id, "rmse")] == [0.5, 0.25]
    assert stored.data.tags["stage"] == "test"
    assert direct.get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == run.info.run_id
    # Not with the client: MLflow 2 keeps the artifact repository of a run for any server.
    files = requests.get(
        f"{mlflow_server.url}/api/2.0/mlflow/artifacts/list",
        params={"run_id": run.info.run_id},
        timeout=30,
    )
    assert {"empty.txt", "reports of today"} <= {file["path"] for file in files.json()["files"]}
    refused = [r for r in workspace.journal.requests() if r.status in {401, 403} or r.status >= 500]
    assert refused == []
    assert bool(workspace.journal.requests("/oidc/v1/token")) is (account == "oauth")
    print(f"{len(workspace.journal.requests())} requests of databricks-sdk {sdk_version}")


def test_artifacts_also_use_signed_urls(
    name: str, token: Any, workspace: Databricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older clients get credentials for a path, then transfer the bytes without a token."""
    monkeypatch.setenv("MLFLOW_DISABLE_DATABRICKS_SDK_FOR_RUN_ARTIFACTS", "true")
    with use("databricks", token.credentials, token.options):
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            mlflow.log_text("signed", f"a b/{HARD}")
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/a b/{HARD}") == "signed"
    assert {r.method for r in workspace.journal.requests("/storage/")} == {"PUT", "GET"}


def test_a_file_too_large_for_one_request_arrives(
    name: str, token: Any, workspace: Databricks, tmp_path: Path
) -> None:
    """Above 50 MiB databricks-sdk tries multipart uploads, which the workspace lacks, and MLflow falls back."""
    large = tmp_path / "large.bin"
    large.write_bytes(b"0123456789abcdef" * (51 << 16))
    with use("databricks", token.credentials, token.options):
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            mlflow.log_artifact(str(large))
        folder = mlflow.artifacts.download_artifacts(run_id=run.info.run_id)
    assert (Path(folder) / "large.bin").read_bytes() == large.read_bytes()


# MLflow 2's trace IDs look like run IDs, and the stand-in distinguishes them by their form: it
# supports only the traces of MLflow 3.
if not mlflow.__version__.startswith("2."):

    def test_a_trace_arrives(name: str, token: Any, workspace: Databricks) -> None:
        """A recorded span is read back with its inputs."""
        with use("databricks", token.credentials, token.options):
            mlflow.set_experiment(name)
            with mlflow.start_span("step") as span:
                span.set_inputs({"question": 1})
            flush = getattr(mlflow, "flush_trace_async_logging", None)
            if flush is not None:
                flush()
            trace = mlflow.get_trace(span.request_id)
            assert trace is not None
            assert [each.inputs for each in trace.data.spans] == [{"question": 1}]
        assert {r.method for r in workspace.journal.requests("/tr-")} >= {"PUT", "GET"}


def test_an_experiment_may_keep_its_artifacts_elsewhere_on_dbfs(
    name: str, token: Any, workspace: Databricks
) -> None:
    """With the user's own artifact location the client writes to DBFS itself."""
    with use("databricks", token.credentials, token.options):
        mlflow.create_experiment(name, artifact_location="dbfs:/team/one")
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            mlflow.log_text("plain", "notes/a.txt")
            mlflow.log_text("", "empty.txt")
        assert run.info.artifact_uri == f"dbfs:/team/one/{run.info.run_id}/artifacts"
        client = mlflow.MlflowClient()
        assert [f.path for f in client.list_artifacts(run.info.run_id)] == ["empty.txt", "notes"]
        assert client.list_artifacts(run.info.run_id, "nowhere") == []
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes/a.txt") == "plain"
    assert workspace.journal.requests("/dbfs/team/one")


def test_the_registry_is_left_alone(name: str, token: Any, tmp_path: Path) -> None:
    """A registry that the user set stays, and receives a registered model."""
    registry = f"sqlite:///{tmp_path / 'registry.db'}"
    mlflow.set_registry_uri(registry)
    with use("databricks", token.credentials, token.options):
        assert mlflow.get_registry_uri() == registry
        mlflow.MlflowClient().create_registered_model("here")
    mlflow.set_tracking_uri(registry)
    assert mlflow.MlflowClient().get_registered_model("here").name == "here"


def test_the_legacy_registry_works_on_request(name: str, token: Any) -> None:
    """With the keyword as registry a model is registered, read back and loaded by its version."""
    registered = name.rpartition("/")[2]
    with use("databricks", token.credentials, token.options, registry="databricks"):
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            log_model(registered_as=registered)
        version = mlflow.MlflowClient().get_model_version(registered, "1")
        assert version.run_id == run.info.run_id
        assert predict(f"models:/{registered}/1") == pytest.approx(6)


def test_the_legacy_registry_refuses_names_of_unity_catalog(token: Any) -> None:
    """The workspace's own registry refuses a name with three levels and names the right registry."""
    with (
        use("databricks", token.credentials, token.options, registry="databricks"),
        pytest.raises(
            mlflow.exceptions.MlflowException, match=r"set_registry_uri\('databricks-uc'\)"
        ),
    ):
        mlflow.MlflowClient().create_registered_model("main.default.model")


def test_lines_of_the_sandboxs_page_work_as_printed(
    name: str, workspace: Databricks, tmp_path: Path
) -> None:
    """The exports of the page and its command, pasted into a shell, log to the workspace."""
    lines = pasted(workspace)
    (tmp_path / "train.py").write_text(
        f"import mlflow\nmlflow.set_experiment({name!r})\nmlflow.log_metric('rmse', 0.5)\n"
    )
    done = subprocess.run(
        ["sh", "-c", f"{lines['In a shell']}\n{lines['Then run a script']}"],
        env={
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert lines["Then run a script"] == "mlflow-connections run databricks -- python train.py"
    assert done.returncode == 0, done.stderr
    assert {r.status for r in workspace.journal.requests("/runs/log-metric")} == {200}
