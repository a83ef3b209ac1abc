"""A workspace as a server of a mirror, on either side, while runs are logged and afterwards by the command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pytest

from mlflow_connections_events.testing import describe, differences
from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._azure import Azure

pytestmark = pytest.mark.slow
LOGGED_MODELS = (
    "has no endpoint 'logged-models', which this event needs. AzureML and servers of MLflow 2 have no logged "
    "models: log the model's files as artifacts."
)
TRACES = "has no endpoint 'traces', which this event needs. AzureML has no traces."
IS_MLFLOW_2 = mlflow.__version__.startswith("2.")
Scripts = Callable[..., Any]


@pytest.fixture(scope="session")
def plain(
    start_server: Callable[[Path], MlflowServer], tmp_path_factory: pytest.TempPathFactory
) -> MlflowServer:
    """An MLflow server with data of its own, which is no workspace."""
    return start_server(tmp_path_factory.mktemp("plain"))


def described(server: MlflowServer, experiment: str) -> dict[str, Any]:
    """Describe the experiment on a server; the workspace's data is read from the server behind it."""
    # MLflow 2 looks for a server's artifacts at the current URI, whatever the client's URI is.
    mlflow.set_tracking_uri(server.url)
    return describe(server.url, experiments=[experiment])


class Sides(NamedTuple):
    """The two servers of a copy.

    Attributes:
        first: The name of the server that has the runs.
        second: The name of the server that gets the copy.
        source: The MLflow server that holds the runs.
        target: The MLflow server that holds the copy.
    """

    first: str
    second: str
    source: MlflowServer
    target: MlflowServer


@pytest.fixture(params=["from the workspace", "to the workspace"])
def sides(
    request: pytest.FixtureRequest, mlflow_server: MlflowServer, plain: MlflowServer
) -> Sides:
    """The workspace as the source, and as the destination."""
    if request.param == "from the workspace":
        return Sides("azureml", plain.url, mlflow_server, plain)
    return Sides(plain.url, "azureml", plain, mlflow_server)


def check(sides: Sides, experiment: str) -> None:
    """Compare both servers: only what AzureML does not have may be missing, and that at the workspace alone."""
    expected, arrived = described(sides.source, experiment), described(sides.target, experiment)
    names = {"parent", "child", *(() if IS_MLFLOW_2 else ("modelled",))}
    assert set(arrived["runs"]) == {f"{experiment}/{name}" for name in names}
    found = differences(expected, arrived)
    lacking = ("models/", "traces/")
    of_run = (f"runs/{experiment}/modelled/{part}: [" for part in ("outputs", "traces"))
    allowed = () if sides.first == "azureml" else (*lacking, *of_run)
    assert [each for each in found if not each.startswith(allowed)] == []
    parent = arrived["runs"][f"{experiment}/parent"]
    assert set(parent["files"]) == {"note.txt", "folder/deep/data.json", "model/weights.txt"}
    assert len(parent["metrics"]["loss"]) == 20
    assert arrived["registered"][experiment]["versions"]["1"]["run"] == (
        f"<run {experiment}/parent>"
    )
    if not IS_MLFLOW_2:
        assert set(arrived["runs"][f"{experiment}/modelled"]["metrics"]) == {"before", "after"}


def refusals(sides: Sides) -> bool:
    """Return whether the destination has to refuse something."""
    return sides.second == "azureml" and not IS_MLFLOW_2


def test_runs_are_copied_while_they_are_logged(
    sides: Sides, workspace: Azure, run_script: Scripts, run_command: Scripts, tmp_path: Path
) -> None:
    """All that AzureML has arrives; the rest becomes dead letters that say so. The command then finds it copied."""
    outbox = {"MLFLOW_CONNECTIONS_OUTBOX_DIR": str(tmp_path / "outbox")}
    name = f"live {tmp_path.name}"
    read = run_script("log_mirrored.py", sides.first, sides.second, name, **outbox)
    assert read["note"] == "a note"
    done = run_command("outbox", "ship", "--output", "json", **outbox)
    (report,) = json.loads(done.stdout)
    assert report["waiting"] == 0
    letters = [
        json.loads(line)
        for path in (tmp_path / "outbox").glob("*/dead_letters.jsonl")
        for line in path.read_text().splitlines()
    ]
    reasons = {letter["reason"].partition("workspaces/")[2] for letter in letters}
    kinds = {letter["kind"] for letter in letters}
    if refusals(sides):
        assert {each.partition("? ")[2] for each in reasons} == {"", LOGGED_MODELS, TRACES}
        files = {"model_logged", "outputs_logged", "artifacts_uploaded"}
        assert kinds == {*files, "trace_logged", "spans_logged"}
    else:
        assert kinds == set()
    check(sides, name)
    again = run_command("mirror", name, "--from", sides.first, "--to", sides.second)
    assert again.returncode == refusals(sides), again.stdout + again.stderr
    check(sides, name)


def test_existing_runs_are_copied_and_a_second_copy_changes_nothing(
    sides: Sides, workspace: Azure, run_script: Scripts, run_command: Scripts, tmp_path: Path
) -> None:
    """The command reports what AzureML does not have, each time, and duplicates nothing."""
    name = f"command {tmp_path.name}"
    run_script("log_mirrored.py", sides.first, "", name)
    for number in range(2):
        arguments = (name, "--from", sides.first, "--to", sides.second, "--output", "json")
        done = run_command("mirror", *arguments)
        assert done.returncode == refusals(sides), done.stdout + done.stderr
        report = json.loads(done.stdout)
        check(sides, name)
        assert len(report["runs"]) == (2 if IS_MLFLOW_2 else 3)
        counts = ("metrics", "files", "models", "versions", "traces")
        metrics = 21 if IS_MLFLOW_2 else 23
        assert [report[each] for each in counts] == [metrics, 3, 0, 1, 0]
        reasons = {each["reason"].partition("? ")[2] for each in report["rejected"]}
        assert reasons == ({"", LOGGED_MODELS, TRACES} if refusals(sides) else set())
        # The run of the model is filled again: its output is still missing.
        assert number == 0 or report["unchanged"]["runs"] == (
            2 if refusals(sides) else len(report["runs"])
        )
