"""Everything that a user logs through `azureml://`, read back by MLflow and on the server itself."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import requests

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._azure import Azure


@pytest.mark.parametrize("sdk", ["arm", "v1"])
def test_everything_is_read_back(
    workspace: Azure, mlflow_server: MlflowServer, run_script: Callable[..., Any], sdk: str
) -> None:
    """Parameters, metrics, tags, artifacts, a model and its registry entry survive the way there."""
    read = run_script("log_and_read.py", sdk, "without-logged-models")

    account = workspace.account
    assert read["tracking_uri"].rstrip("?") == (
        f"azureml://westeurope.api.azureml.ms/mlflow/v2.0{account.scope}"
    )
    assert read["was_core_imported"] is (sdk == "v1")
    _check(read)
    # The run is where a person would look for it: on the real server behind the stand-in.
    answer = requests.get(
        f"{mlflow_server.url}/api/2.0/mlflow/runs/get", {"run_id": read["run_id"]}, timeout=60
    ).json()
    params = {p["key"]: p["value"] for p in answer["run"]["data"]["params"]}
    assert params == {"alpha": "1", "beta": "two"}
    assert read["artifact_uri"].startswith("azureml://westeurope.api.azureml.ms/")


def test_model_is_logged_where_the_workspace_has_logged_models(
    workspace: Azure, run_script: Callable[..., Any]
) -> None:
    """MLflow's own log_model works with a workspace that has the endpoint of MLflow 3."""
    workspace.account.has_logged_models = True

    read = run_script("log_and_read.py", "arm", "with-logged-models")

    _check(read)
    is_mlflow_2 = version("mlflow-skinny").startswith("2.")
    assert bool(workspace.journal.requests("/logged-models")) is not is_mlflow_2


def test_example_of_the_readme(
    workspace: Azure, mlflow_server: MlflowServer, run_script: Callable[..., Any], tmp_path: Path
) -> None:
    """The README's example runs as it stands."""
    readme = Path(__file__).parents[2] / "packages/azureml/README.md"
    example = readme.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    script = tmp_path / "example.py"
    script.write_text(f"{example}\nprint('{{}}')\n", encoding="utf-8")
    account = workspace.account

    run_script(
        str(script),
        signed_in=False,
        MY_TENANT=account.tenant_id,
        MY_CLIENT=account.client_id,
        MY_SECRET=account.client_secret,
        MY_SUBSCRIPTION=account.subscription_id,
        MY_GROUP=account.resource_group,
        MY_WORKSPACE=account.workspace_name,
    )

    api = f"{mlflow_server.url}/api/2.0/mlflow"
    name = {"experiment_name": "first"}
    found = requests.get(f"{api}/experiments/get-by-name", name, timeout=60).json()["experiment"]
    runs = requests.post(
        f"{api}/runs/search", json={"experiment_ids": [found["experiment_id"]]}, timeout=60
    ).json()["runs"]
    assert runs[0]["data"]["metrics"][0]["value"] == 0.5


def _check(read: dict[str, Any]) -> None:
    assert read["params"] == {"alpha": "1", "beta": "two"}
    assert read["metrics"] == [0.5, 0.25]
    assert read["team"] == "blue"
    assert {"empty.txt", "large.json", "notes"} <= set(read["artifacts"])
    assert read["note"] == "a note"
    assert read["empty"] == ""
    assert read["large"] == 50_000
    assert read["said"] == ["HELLO"]
