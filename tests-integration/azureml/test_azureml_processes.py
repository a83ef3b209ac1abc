"""Processes that did not resolve the connection: ParallelRunner's workers, and AzureML's own jobs."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._azure import Azure


def in_parallel(azure: Azure, run_script: Callable[..., Any], **options: bool) -> dict[str, Any]:
    """Run the pipeline with a service principal that only credentials.yml contains."""
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


def test_spawned_workers_get_tokens_without_the_secret(
    workspace: Azure, run_script: Callable[..., Any]
) -> None:
    """The workers of Kedro's ParallelRunner ask only their parent."""
    found = in_parallel(workspace, run_script)

    assert found == {"is_secret_in_worker": False, "metrics": {"one": 1.0, "two": 2.0}}
    # The parent fetched one token.
    assert len(workspace.journal.requests("/oauth2/v2.0/token")) == 1
    assert not workspace.journal.requests("/devicecode")


def test_spawned_workers_sign_in_on_request(
    workspace: Azure, run_script: Callable[..., Any]
) -> None:
    """With `share_with_workers: true` the workers sign in themselves."""
    found = in_parallel(workspace, run_script, share_with_workers=True)

    assert found == {"is_secret_in_worker": True, "metrics": {"one": 1.0, "two": 2.0}}
    assert len(workspace.journal.requests("/oauth2/v2.0/token")) > 1


def test_command_runs_without_the_secret(
    workspace: Azure, run_command: Callable[..., Any], warm_python: str
) -> None:
    """`mlflow-connections run` stays as the parent; a command that uses the connection itself gets tokens, too."""
    account = workspace.account
    code = (
        f"import os; assert {account.client_secret!r} not in str(dict(os.environ))\n"
        "import mlflow_connections\n"
        "with mlflow_connections.use('azureml'):\n"
        "    exec(open('train.py').read())"
    )

    done = run_command("run", "azureml", "--option", "sdk=arm", "--", warm_python, "-c", code)

    assert done.returncode == 0, done.stderr
    assert "rmse 0.5" in done.stdout
    assert set(workspace.tokens.used_by) == {account.client_id}
    assert len(workspace.journal.requests("/oauth2/v2.0/token")) == 1


def test_child_that_outlives_its_parent_gets_the_remedy(
    workspace: Azure, run_command: Callable[..., Any], tmp_path: Path, warm_python: str
) -> None:
    """It fails immediately in one sentence; azureml-mlflow alone would wait for a person."""
    wait = "while kill -0 $parent 2>/dev/null; do sleep 0.1; done"
    shell = f'parent=$PPID; ({wait}; "$0" train.py; touch ended) </dev/null >said 2>&1 &'

    done = run_command(
        "run", "azureml", "--option", "sdk=arm", "--", "sh", "-c", shell, warm_python
    )
    assert done.returncode == 0, done.stderr
    while not (tmp_path / "ended").exists():
        time.sleep(0.1)

    said = (tmp_path / "said").read_text()
    assert "AccessError: The process that holds the secret for azureml://" in said
    assert "`share_with_workers: true`" in said
    assert workspace.account.client_secret not in said
    assert not workspace.journal.requests("/devicecode")


def test_lines_of_env_sign_in_if_the_secret_is_in_a_variable(
    workspace: Azure, run_command: Callable[..., Any], warm_python: str
) -> None:
    """A shell that evaluates them already has the secret, so no parent is needed and no secret is printed."""
    connect = "mlflow-connections env azureml --option sdk=arm"
    shell = f'lines="$({connect})" && eval "$lines" && echo "$lines" && "$0" train.py'

    done = run_command("run", "sqlite:///unused.db", "--", "sh", "-c", shell, warm_python)

    assert done.returncode == 0, done.stderr
    assert "rmse 0.5" in done.stdout
    assert workspace.account.client_secret not in done.stdout
    assert set(workspace.tokens.used_by) == {workspace.account.client_id}


def test_job_keeps_its_own_uri(
    workspace: Azure, mlflow_server: MlflowServer, run_script: Callable[..., Any]
) -> None:
    """Inside a job nothing is resolved or required, and the job's token is used."""
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
