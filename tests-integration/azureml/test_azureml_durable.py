"""Durable in front of a workspace: the run starts while it is down, and a later delivery gets its credential."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mlflow_connections_events.testing import describe
from mlflow_connections_sandbox import Fault, MlflowServer
from mlflow_connections_sandbox._azure import Azure


def ship(tmp_path: Path, environment: dict[str, str], code: int | None = 0) -> dict[str, Any]:
    """Deliver everything, and return the command's report; a shipper may have done some of it before."""
    command = ("-m", "mlflow_connections", "outbox", "ship", "--timeout", "600", "--output", "json")
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert code is None or done.returncode == code, done.stdout + done.stderr
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


@pytest.mark.skipif(mlflow.__version__.startswith("2."), reason="MLflow 2 has no logged models")
def test_a_model_that_the_workspace_cannot_take_is_refused_as_without_durable(
    workspace: Azure, run_script: Callable[..., Any], tmp_path: Path
) -> None:
    """MLflow 3's `log_model` raises MLflow's own error at once, and the rest of the run arrives."""
    outbox = {"MLFLOW_CONNECTIONS_OUTBOX_DIR": str(tmp_path / "outbox")}
    read = run_script("log_model_durably.py", "models refused", **outbox)
    assert read["plain"].startswith("ENDPOINT_NOT_FOUND: API request to endpoint ")
    assert read["durable"] == read["plain"]
    report = ship(tmp_path, {**workspace.environment(), **outbox})
    assert (report["waiting"], report["rejected"]) == (0, 0)


@pytest.mark.slow
@pytest.mark.skipif(mlflow.__version__.startswith("2."), reason="MLflow 2 has no logged models")
def test_a_model_logged_while_the_workspace_is_down_holds_nothing_up(
    workspace: Azure, mlflow_server: MlflowServer, run_script: Callable[..., Any], tmp_path: Path
) -> None:
    """The model becomes a dead letter at once, with the reason, and the rest of the run arrives."""
    workspace.faults.inject(Fault("/mlflow/", status=503, body="busy"))
    outbox = {"MLFLOW_CONNECTIONS_OUTBOX_DIR": str(tmp_path / "outbox")}
    name = "models that wait"
    read = run_script("log_model_durably.py", name, "down", **outbox)
    assert read == {"durable": None}
    workspace.faults.clear()
    began = time.monotonic()
    report = ship(tmp_path, {**workspace.environment(), **outbox}, code=1)
    assert time.monotonic() - began < 60
    assert report["waiting"] == 0
    found = letters(tmp_path)
    assert {letter["kind"] for letter in found} >= {"model_logged", "artifacts_uploaded"}
    assert found[0]["reason"].endswith(
        "has no endpoint 'logged-models', which this event needs. AzureML and servers of MLflow 2 have no "
        "logged models: log the model's files as artifacts."
    )
    mlflow.set_tracking_uri(mlflow_server.url)
    (run,) = describe(mlflow_server.url, experiments=[name])["runs"].values()
    assert set(run["metrics"]) == {"before", "after"}
    assert run["status"] == "FINISHED"
    assert "note.txt" in run["files"]


def letters(tmp_path: Path) -> list[dict[str, Any]]:
    """Return the dead letters of a test's outbox."""
    return [
        json.loads(line)
        for path in (tmp_path / "outbox").glob("*/dead_letters.jsonl")
        for line in path.read_text().splitlines()
    ]


def test_a_file_is_logged_again_with_the_same_content_or_is_refused(
    workspace: Azure, run_script: Callable[..., Any], tmp_path: Path
) -> None:
    """Azure's client never overwrites: the same bytes are delivered, and others are a dead letter with a reason."""
    outbox = {"MLFLOW_CONNECTIONS_OUTBOX_DIR": str(tmp_path / "outbox")}
    read = run_script("log_files_twice.py", "twice", **outbox)
    report = ship(tmp_path, {**workspace.environment(), **outbox}, code=None)
    assert report["waiting"] == 0
    (letter,) = letters(tmp_path)
    assert letter["reason"] == (
        f"The server has a file other.txt of {read['run_id']} with another content, and its storage never "
        "overwrites a file, as Azure's: log the new content under another name."
    )


@pytest.mark.slow
def test_a_file_whose_response_is_lost_is_delivered(
    workspace: Azure, mlflow_server: MlflowServer, run_script: Callable[..., Any], tmp_path: Path
) -> None:
    """Azure's client sends it again and is refused, although its bytes have arrived."""
    outbox = {"MLFLOW_CONNECTIONS_OUTBOX_DIR": str(tmp_path / "outbox")}
    workspace.faults.inject(Fault("/mlflow/", status=503, body="busy"))
    run_script("log_durably.py", "lost", **outbox)
    workspace.faults.clear()
    workspace.faults.inject(Fault("/note.txt", lost=True, times=1))
    report = ship(tmp_path, {**workspace.environment(), **outbox})
    assert (report["waiting"], report["rejected"]) == (0, 0)
    assert [each.status for each in workspace.journal.requests("/note.txt")][:2] == [0, 409]
    mlflow.set_tracking_uri(mlflow_server.url)
    runs = describe(mlflow_server.url, experiments=["lost"])["runs"]
    assert "note.txt" in runs["lost/parent"]["files"]


@pytest.mark.slow
@pytest.mark.parametrize("sdk", ["v1", "arm"])
@pytest.mark.parametrize(
    "fault", [Fault(cut=True), Fault(delay=100_000.0, cut=True)], ids=["refuses", "hangs"]
)
def test_a_run_starts_though_all_of_azure_is_down(
    sdk: str,
    fault: Fault,
    workspace: Azure,
    mlflow_server: MlflowServer,
    run_script: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """Neither the sign-in nor Azure Resource Manager responds: the workspace's last known address is used."""
    outbox = {"MLFLOW_CONNECTIONS_OUTBOX_DIR": str(tmp_path / "outbox")}
    name = f"all down {sdk} {fault.delay}"
    (tmp_path / "mlflow-connections.toml").write_text(
        f'[connections.ml]\nconnection = "azureml"\nsdk = "{sdk}"\n'
    )
    run_script("log_durably.py", f"{name} before", "ml", **outbox)
    workspace.faults.inject(fault)
    read = run_script("log_durably.py", name, "ml", **outbox)
    assert read["artifact_uri"].startswith("durable:")
    workspace.faults.clear()
    report = ship(tmp_path, {**workspace.environment(), **outbox})
    assert (report["waiting"], report["rejected"]) == (0, 0)
    mlflow.set_tracking_uri(mlflow_server.url)
    runs = describe(mlflow_server.url, experiments=[name])["runs"]
    assert sorted(runs) == [f"{name}/child", f"{name}/parent"]
    assert "note.txt" in runs[f"{name}/parent"]["files"]


@pytest.mark.slow
def test_a_machine_that_never_saw_the_workspace_needs_its_address(
    workspace: Azure,
    run_script: Callable[..., Any],
    run_command: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """A fresh container starts without Azure if it gets `workspace_uri`; otherwise one sentence ends it."""
    uri = run_command("run", "azureml", "--", "printenv", "MLFLOW_TRACKING_URI").stdout.strip()
    outbox = {"MLFLOW_CONNECTIONS_OUTBOX_DIR": str(tmp_path / "outbox")}
    workspace.faults.inject(Fault(cut=True))
    ended = run_command(
        "run", "durable", "--option", "server=azureml", "--", "python", "train.py", **outbox
    )
    assert ended.returncode != 0
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert "set 'workspace_uri' to start without Azure" in ended.stderr
    given = {**outbox, "MLFLOW_CONNECTIONS_AZUREML_WORKSPACE_URI": uri}
    read = run_script("log_durably.py", "never seen", **given)
    assert read["artifact_uri"].startswith("durable:")
    workspace.faults.clear()
    report = ship(tmp_path, {**workspace.environment(), **given})
    assert (report["waiting"], report["rejected"]) == (0, 0)
