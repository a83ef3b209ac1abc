"""The specification's example, under the real `dbnd run`."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from mlflow_connections_sandbox._databand import Databand

# The specification's code, with the omitted imports, and a check of the tracking URI.
_EXAMPLE = """
from random import randint, random

import mlflow
from dbnd import task
from mlflow import end_run, log_metric, log_param, start_run


@task
def mlflow_example():
    print("TRACKING", mlflow.get_tracking_uri())
    start_run()
    # params
    log_param("param1", randint(0, 100))
    log_param("param2", randint(0, 100))
    # metrics
    log_metric("foo1", random())
    log_metric("foo2", random())
    end_run()
"""


def dbnd_run(environment: Mapping[str, str], folder: Path, *arguments: str) -> str:
    """Run the example, and return dbnd's output."""
    (folder / "example_tasks.py").write_text(_EXAMPLE)
    result = subprocess.run(
        ["dbnd", "run", "example_tasks.mlflow_example", *arguments],
        env=dict(environment),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3_000:]
    return result.stdout


def task_of(tracker: Databand) -> dict[str, Any]:
    """Return the example's task."""
    (run,) = tracker.runs()
    (task,) = (t for t in run["tasks"] if t["name"].endswith("mlflow_example"))
    return dict(task)


def composite(tracker: Databand, store: str) -> str:
    """Return the URI that tracks to a store and to the tracker."""
    quoted = store.replace("/", "%252F").replace(":", "%253A")
    return f"dbnd://127.0.0.1:{tracker.port}?duplicate_tracking_to={quoted}"


def runs(store: str, environment: Mapping[str, str]) -> list[Run]:
    """Return the runs that a process with this environment created in a store."""
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name(environment["MLFLOW_EXPERIMENT_NAME"])
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def test_the_specifications_example_tracks_to_both(
    tracker: Databand, dbnd_environment: Mapping[str, str], tmp_path: Path
) -> None:
    """MLflow has the run, and its params and metrics belong to the attempt of dbnd's task."""
    printed = dbnd_run(
        dbnd_environment, tmp_path, "--set-config", "mlflow_tracking.databand_tracking=True"
    )
    store = dbnd_environment["MLFLOW_TRACKING_URI"]
    assert f"TRACKING {composite(tracker, store)}" in printed

    (run,) = runs(store, dbnd_environment)
    assert run.info.status == "FINISHED"
    task = task_of(tracker)
    assert task["state"] == "SUCCESS"
    values = {m["key"]: m["value"] for m in task["metrics"]}
    assert values["foo1"] == run.data.metrics["foo1"]
    assert values["foo2"] == run.data.metrics["foo2"]
    assert values["mlflow.param.param1"] == run.data.params["param1"]
    assert values["mlflow.param.param2"] == run.data.params["param2"]
    assert values["mlflow.run"]["run_id"] == run.info.run_id
    assert [r.status for r in tracker.journal.requests() if r.status >= 400] == []


def test_without_the_setting_nothing_is_duplicated(
    tracker: Databand, dbnd_environment: Mapping[str, str], tmp_path: Path
) -> None:
    """MLflow's tracking URI is the user's, and dbnd tracks its task as usual."""
    printed = dbnd_run(dbnd_environment, tmp_path)
    assert f"TRACKING {dbnd_environment['MLFLOW_TRACKING_URI']}" in printed
    assert not [m for m in task_of(tracker)["metrics"] if m["key"].startswith("foo")]


@pytest.mark.parametrize("place", ["file", "environment"])
def test_the_settings_are_read_from_every_source_of_dbnd(
    place: str, tracker: Databand, dbnd_environment: Mapping[str, str], tmp_path: Path
) -> None:
    """`duplicate_tracking_to` and the switch work from a cfg file and from variables."""
    other = dbnd_environment["MLFLOW_TRACKING_URI"]
    environment = {**dbnd_environment, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    if place == "file":
        del environment["DBND__CORE__DATABAND_URL"]
        (tmp_path / "dbnd" / "project.cfg").write_text(
            f"[core]\ndataband_url={tracker.url}\n"
            f"[mlflow_tracking]\ndataband_tracking=True\nduplicate_tracking_to={other}\n"
        )
    else:
        environment["DBND__MLFLOW_TRACKING__DATABAND_TRACKING"] = "True"
        environment["DBND__MLFLOW_TRACKING__DUPLICATE_TRACKING_TO"] = other
    assert f"TRACKING {composite(tracker, other)}" in dbnd_run(environment, tmp_path)
    assert len(runs(other, environment)) == 1
    assert [m for m in task_of(tracker)["metrics"] if m["key"] == "foo1"]
