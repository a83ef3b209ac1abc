"""Every call of a training, in front of each server that fails in each way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.utils import mlflow_tags
from trainings import dead_letters

from mlflow_connections_sandbox import MlflowServer

LONGEST = 5.0
"""Seconds: twice what a call may wait. MLflow and the services' clients would try for minutes."""
LONG = 1.5
"""Seconds: more than MLflow waits for its own threads and processes."""
SILENCE = 5.0
"""Seconds in which a server that failed is not asked again."""
ONLY_THE_SERVER = {
    *("search_runs", "search_traces", "search_experiments", "search_model_versions"),
    *("search_registered_models", "delete_experiment"),
    # MLflow 2 has no logged models.
    *(("search_logged_models", "get_logged_model") if int(mlflow.__version__[0]) > 2 else ()),
}
"""The calls that only a server can answer."""


def cannot_hide_links(name: str) -> bool:
    """Return whether this version prints links to a run that has a provisional ID."""
    if hasattr(mlflow_tags, "MLFLOW_RUN_TYPE_GENAI_EVALUATE"):
        return False
    return name == "azureml" or (name == "databricks" and int(mlflow.__version__[0]) > 2)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["refuses", "hangs", "503", "429"])
@pytest.mark.parametrize("name", ["plain", "http", "databricks", "azureml"])
def test_no_call_waits_for_a_server_that_fails(
    name: str,
    how: str,
    make_server: Callable[[str], Any],
    start_program: Callable[..., Any],
    ship: Callable[..., dict[str, Any]],
    outbox: Path,
    mlflow_server: MlflowServer,
) -> None:
    """Each call waits for one attempt at most, one in five seconds, and all that was logged arrives later."""
    server = make_server(name)
    experiment = server.experiment(f"calls {name} {how}")
    registered = server.registered(f"wine_{name}_{how}")
    program = start_program("every_call", server.option, experiment, registered)
    program.wait_until_ready()
    server.fail(how)
    *printed, last = program.run()
    report = json.loads(last)
    assert report["raised"] == {}
    assert set(report["refused"]) == ONLY_THE_SERVER
    assert all(each.startswith("TEMPORARILY_UNAVAILABLE") for each in report["refused"].values())
    waited = report["waited"]
    assert max(waited.values()) < LONGEST, waited
    long = {call: seconds for call, seconds in waited.items() if seconds > LONG}
    assert len(long) <= 1 + report["lasted"] / SILENCE, long
    assert any("View run" in line for line in printed) == cannot_hide_links(name)
    server.recover()
    report = ship()
    # Azure's client never overwrites a file, as the second `log_table` does.
    refused = dead_letters(outbox)
    assert (report["waiting"], len(refused)) == (0, int(name == "azureml")), refused
    client = mlflow.MlflowClient(mlflow_server.url, mlflow_server.url)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    assert sorted(str(run.data.tags.get("mlflow.parentRunId") is not None) for run in runs) == [
        *("False", "False", "True")
    ]
    versions = client.search_model_versions(f"name = '{registered}'")
    assert len(versions) == 2
