"""Processes that did not resolve themselves: ParallelRunner's workers, and AzureML's own jobs."""

import json
from collections.abc import Callable
from typing import Any

import requests

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._azure import Azure


def in_parallel(azure: Azure, run_script: Callable[..., Any], **options: bool) -> dict[str, Any]:
    """Run the pipeline with a service principal that only credentials.yml knows."""
    account = azure.account
    credentials = {
        "tenant_id": account.tenant_id,
        "client_id": account.client_id,
        "client_secret": account.client_secret,
    }
    found: dict[str, Any] = run_script(
        "work_in_parallel.py",
        json.dumps(credentials),
        json.dumps(options),
        signed_in=False,
        KEDRO_MP_CONTEXT="spawn",
    )
    return found


def test_spawned_workers_sign_in_when_that_is_asked_for(
    workspace: Azure, run_script: Callable[..., Any]
) -> None:
    """With `share_with_workers: true` the workers of Kedro's ParallelRunner log to the workspace."""
    found = in_parallel(workspace, run_script, share_with_workers=True)

    assert found == {"said": "", "metrics": {"one": 1.0, "two": 2.0}}


def test_spawned_workers_ask_nobody(workspace: Azure, run_script: Callable[..., Any]) -> None:
    """Without it workers fail at once and name the remedy, where azureml-mlflow would wait for a person."""
    found = in_parallel(workspace, run_script)

    assert found["metrics"] == {}
    assert found["said"].startswith("AccessError: ")
    assert "`share_with_workers: true`" in found["said"]
    assert not workspace.journal.requests("/devicecode")


def test_job_keeps_its_own_uri(
    workspace: Azure, mlflow_server: MlflowServer, run_script: Callable[..., Any]
) -> None:
    """Inside a job nothing is resolved, nothing is required, and the job's token is used."""
    api = f"{mlflow_server.url}/api/2.0/mlflow"
    experiment = requests.post(
        f"{api}/experiments/create", json={"name": "jobs"}, timeout=60
    ).json()["experiment_id"]
    run = requests.post(f"{api}/runs/create", json={"experiment_id": experiment}, timeout=60)
    run_id = run.json()["run"]["info"]["run_id"]
    job = dict(workspace.job(run_id, experiment))
    nothing = dict.fromkeys(
        ("AZUREML_SUBSCRIPTION_ID", "AZUREML_RESOURCE_GROUP", "AZUREML_WORKSPACE_NAME"), ""
    )

    found = run_script("run_in_job.py", signed_in=False, **{**job, **nothing})

    assert found["run_id"] == run_id
    assert found["tracking_uri"] == job["MLFLOW_TRACKING_URI"]
    assert found["environment"] == {}
    assert found["metrics"] == {"from_job": 1.0}
    assert not workspace.journal.requests("/oauth2/")
    assert not [r for r in workspace.journal.requests() if r.path.startswith("/subscriptions")]
