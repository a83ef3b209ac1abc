"""All entities that a user logs through `azureml://`, read back through MLflow and from the server itself."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
import requests

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._azure import Azure


@pytest.mark.parametrize("sdk", ["arm", "v1"])
def test_everything_is_read_back(
    workspace: Azure, mlflow_server: MlflowServer, run_script: Callable[..., Any], sdk: str
) -> None:
    """Parameters, metrics, tags, artifacts, a model and its registry entry arrive unchanged."""
    read = run_script("log_and_read.py", sdk, "without-logged-models")

    account = workspace.account
    assert read["tracking_uri"].rstrip("?") == (
        f"azureml://westeurope.api.azureml.ms/mlflow/v2.0{account.scope}"
    )
    assert read["was_core_imported"] is (sdk == "v1")
    _check(read)
    # A person finds the run on the real server behind the stand-in.
    answer = requests.get(
        f"{mlflow_server.url}/api/2.0/mlflow/runs/get", {"run_id": read["run_id"]}, timeout=60
    ).json()
    params = {p["key"]: p["value"] for p in answer["run"]["data"]["params"]}
    assert params == {"alpha": "1", "beta": "two"}
    assert read["artifact_uri"].startswith("azureml://westeurope.api.azureml.ms/")


def test_model_is_logged_if_the_workspace_has_logged_models(
    workspace: Azure, run_script: Callable[..., Any]
) -> None:
    """MLflow's own log_model works with a workspace that has the endpoint of MLflow 3."""
    workspace.account.has_logged_models = True

    read = run_script("log_and_read.py", "arm", "with-logged-models")

    _check(read)
    is_mlflow_2 = version("mlflow-skinny").startswith("2.")
    assert bool(workspace.journal.requests("/logged-models")) is not is_mlflow_2


def _check(read: dict[str, Any]) -> None:
    assert read["params"] == {"alpha": "1", "beta": "two"}
    assert read["metrics"] == [0.5, 0.25]
    assert read["team"] == "blue"
    assert {"empty.txt", "large.json", "notes"} <= set(read["artifacts"])
    assert read["note"] == "a note"
    assert read["empty"] == ""
    assert read["large"] == 50_000
    assert read["said"] == ["HELLO"]
