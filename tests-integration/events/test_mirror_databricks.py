"""`mirror` in front of Databricks, and with a copy on Databricks: its URI stays, and Unity Catalog is copied too."""

import os
import subprocess
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from mlflow_connections import use
from mlflow_connections_events.testing import describe, differences
from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._databricks import Databricks

# No MLflow version has all attributes of another.
mlflow: Any = import_module("mlflow")
IS_MLFLOW_2 = mlflow.__version__.startswith("2.")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_path")]

REGISTERED = "main.default.wine"


class Doubling(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # of no known type
    """A model without dependencies."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        """Double each value."""
        return 2 * model_input


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of outboxes: one process has one outbox for each destination."""
    return tmp_path_factory.mktemp("outbox")


@pytest.fixture(autouse=True)
def outbox(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the outboxes apart from those of other tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(folder))
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT", "0")


@pytest.fixture
def name(tmp_path: Path) -> str:
    """The name of an experiment, as Databricks requires it."""
    return f"/Shared/{tmp_path.name}"


def work(name: str, registered: str = REGISTERED) -> None:
    """Log runs, files and a model, register two versions, and change and delete some of it."""
    mlflow.set_experiment(name)
    client = MlflowClient()
    data = pd.DataFrame({"x": [1.0, 2.0]})
    with mlflow.start_run(run_name="parent") as run:
        mlflow.log_params({"alpha": 0.5})
        for step in range(3):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_text("hello", "notes/hello.txt")
        with mlflow.start_run(run_name="child", nested=True):
            mlflow.set_tag("a", "1")
        place = {"artifact_path": "model"} if IS_MLFLOW_2 else {"name": "model"}
        logged = mlflow.pyfunc.log_model(
            python_model=Doubling(),
            signature=mlflow.models.infer_signature(data, data),
            pip_requirements=["mlflow-skinny"],
            **place,
        )
    deleted = client.create_run(run.info.experiment_id, run_name="deleted")
    client.delete_run(deleted.info.run_id)
    for _ in range(2):
        mlflow.register_model(logged.model_uri, registered)
    client.update_registered_model(registered, "About wine.")
    client.set_registered_model_tag(registered, "team", "red")
    client.set_registered_model_tag(registered, "gone", "1")
    client.delete_registered_model_tag(registered, "gone")
    client.set_registered_model_alias(registered, "champion", "2")
    client.set_registered_model_alias(registered, "gone", "1")
    client.delete_registered_model_alias(registered, "gone")
    client.set_model_version_tag(registered, "2", "checked", "yes")
    client.update_model_version(registered, "2", "The second.")
    client.delete_model_version(registered, "1")


def ship(code: int = 0) -> None:
    """Deliver everything that can be delivered, in another process, with this environment."""
    done = subprocess.run(
        ["mlflow-connections", "outbox", "ship", "--timeout", "60"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr


def registered(client: MlflowClient, name: str = REGISTERED) -> dict[str, Any]:
    """Return what a registry knows of a model and its versions."""
    model = client.get_registered_model(name)
    versions = [
        client.get_model_version(name, str(each.version))
        for each in client.search_model_versions(f"name = '{name}'")
    ]
    return {
        "description": model.description,
        "tags": {k: v for k, v in model.tags.items() if not k.startswith("mlflow")},
        "champion": client.get_model_version_by_alias(name, "champion").description,
        "aliases": list(model.aliases),
        "versions": [(v.description, v.tags.get("checked")) for v in versions],
    }


def assert_equal(source: str, target: str, name: str) -> None:
    """Compare an experiment on two servers, without registries: Unity Catalog is not at the tracking URI."""
    found = [describe(uri, experiments=[name]) for uri in (source, target)]
    for each in found:
        del each["registered"]
    assert differences(*found) == []
    assert len(found[1]["runs"]) == 3
    assert found[1]["runs"][f"{name}/parent"]["files"]["notes/hello.txt"] == "hello"


def assert_loads(name: str) -> None:
    """Load the champion of a registered model, and use it."""
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    assert model.predict(pd.DataFrame({"x": [3.0]}))["x"].tolist() == [6.0]


EXPECTED = {
    "description": "About wine.",
    "tags": {"team": "red"},
    "champion": "The second.",
    "aliases": ["champion"],
    "versions": [("The second.", "yes")],
}


def test_databricks_is_copied_with_unity_catalog(
    workspace: Databricks, other_server: MlflowServer, mlflow_server: MlflowServer, name: str
) -> None:
    """Runs, files, models, versions, aliases, tags and deletions arrive on a plain server, each once."""
    options = {"primary": "databricks", "copy": other_server.url}
    with use("mirror", {}, options, registry="databricks-uc"):
        assert mlflow.get_tracking_uri() == "databricks"
        work(name)
    ship()
    assert_equal("databricks", other_server.url, name)
    copy = MlflowClient(other_server.url)
    assert registered(copy) == EXPECTED
    mlflow.set_tracking_uri(other_server.url)
    mlflow.set_registry_uri(other_server.url)
    assert_loads(REGISTERED)


def test_databricks_gets_a_copy_with_unity_catalog(
    workspace: Databricks, other_server: MlflowServer, mlflow_server: MlflowServer, name: str
) -> None:
    """Names that Databricks accepts arrive there, and with MLflow 3 versions in Unity Catalog."""
    options = {"primary": other_server.url, "copy": "databricks"}
    with use("mirror", {}, options):
        work(name, REGISTERED + "s")
    # The registry of Databricks in MLflow 2 is the workspace's, which refuses such names.
    ship(1 if IS_MLFLOW_2 else 0)
    # The module's tests share the outbox, and `ship` fails as long as rejected events are kept.
    drop = ["mlflow-connections", "outbox", "drop", "--rejected", "--yes"]
    subprocess.run(drop, capture_output=True, check=True)
    assert_equal(other_server.url, "databricks", name)
    if IS_MLFLOW_2:
        return
    with use("databricks", registry="databricks-uc"):
        assert registered(MlflowClient(), REGISTERED + "s") == EXPECTED
        assert_loads(REGISTERED + "s")


@pytest.mark.parametrize("fault", ["down", "refuses"])
def test_a_workspace_that_takes_no_copy_delays_nothing(
    fault: str,
    workspace: Databricks,
    other_server: MlflowServer,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """User code does not notice it, though Databricks' own client retries for minutes, and all arrives later."""
    token = os.environ["DATABRICKS_TOKEN"]
    if fault == "down":
        workspace.close()
    else:
        monkeypatch.setenv("DATABRICKS_TOKEN", "expired")
    options = {"primary": other_server.url, "copy": "databricks"}
    with use("mirror", {}, options):
        mlflow.set_experiment(name)
        began = time.monotonic()
        with mlflow.start_run(run_name="parent"):
            mlflow.log_text("hello", "notes/hello.txt")
            for number in ("1", "2"):
                with mlflow.start_run(run_name=number, nested=True):
                    mlflow.log_metric("loss", 0.5)
        # Databricks' client retries for 300 seconds.
        assert time.monotonic() - began < 150
    assert workspace.journal.requests("/api/2.0/mlflow/runs/create") == []
    if fault == "down":
        workspace.start()
    monkeypatch.setenv("DATABRICKS_TOKEN", token)
    ship()
    assert_equal(other_server.url, "databricks", name)


def test_one_workspace_is_copied_to_another(
    workspace: Databricks,
    other_server: MlflowServer,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is reached with its own variables, though both have the same URI."""
    other = Databricks(other_server.url, tmp_path / "other")
    other.start()
    file = tmp_path / "connections.toml"
    file.write_text(
        f'[connections.other]\nconnection = "databricks"\nhost = "{other.url}"\n'
        'credentials = { token = { env = "OTHER_TOKEN" } }\n'
    )
    monkeypatch.setenv("OTHER_TOKEN", other.access.token)
    monkeypatch.setenv("MLFLOW_CONNECTIONS_FILE", str(file))
    with use("mirror", {}, {"primary": "databricks", "copy": "other"}):
        mlflow.set_experiment(name)
        with mlflow.start_run(run_name="parent"):
            mlflow.log_text("hello", "notes/hello.txt")
            for number in ("1", "2"):
                with mlflow.start_run(run_name=number, nested=True):
                    mlflow.log_metric("loss", 0.5)
    ship()
    again = ["mlflow-connections", "mirror", name, "--from", "databricks", "--to", "other"]
    done = subprocess.run(again, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Copied 3 runs" in done.stdout
    found = []
    for server in ("databricks", "other"):
        with use(server):
            found.append(describe("databricks", experiments=[name]))
    assert differences(*found) == []
    assert found[1]["runs"][f"{name}/parent"]["files"]["notes/hello.txt"] == "hello"
    other.close()
