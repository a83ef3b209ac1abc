"""The SDK in scripts: the context manager, the hooks in one process, and the real SDK with the stand-in."""

import json
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from mlflow_connections_sandbox._databand import Databand


def run_script(environment: Mapping[str, str], script: str) -> Any:
    """Run a script in a separate process, because dbnd allows one session per process; return its last output."""
    result = subprocess.run(
        ["python", "-c", script],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3_000:]
    return json.loads(result.stdout.splitlines()[-1])


_SCRIPT = """
import json, os
import mlflow
from dbnd import dbnd_tracking, log_metric
from mlflow_connections_databand import databand_tracking

before = mlflow.get_tracking_uri()
with dbnd_tracking(job_name="job", run_name="script"), databand_tracking() as uri:
    inside = mlflow.get_tracking_uri()
    log_metric("sdk", 1)
    with mlflow.start_run():
        mlflow.log_metric("m", 2.0, step=3)
        with mlflow.start_run(nested=True, run_name="child"):
            mlflow.log_metric("c", 3.0)
after = mlflow.get_tracking_uri()
print()
print(json.dumps([before == after, inside == uri, uri]))
"""


def test_a_script_with_dbnd_tracking_is_copied_to_its_attempt(
    tracker: Databand, dbnd_environment: Mapping[str, str]
) -> None:
    """MLflow's run belongs to the script's task, and a nested run is below it."""
    is_restored, is_in_force, uri = run_script(dbnd_environment, _SCRIPT)
    assert (is_restored, is_in_force) == (True, True)
    assert uri.startswith(f"dbnd://127.0.0.1:{tracker.port}?")
    script, child = tracker.runs()
    (task,) = script["tasks"]
    metrics = {m["key"]: m for m in task["metrics"]}
    assert metrics["sdk"]["value"] == 1
    assert (metrics["m"]["value"], metrics["m"]["value_json"]) == (2.0, {"step": 3})
    assert child["name"] == "child"
    assert child["root_run"] == {
        "root_run_uid": script["run_uid"],
        "root_run_url": None,
        "root_task_run_uid": task["task_run_uid"],
        "root_task_run_attempt_uid": task["task_run_attempt_uid"],
    }


def test_the_real_sdk_logs_in_with_a_password(
    tracker: Databand, dbnd_environment: Mapping[str, str]
) -> None:
    """Without a token both dbnd and the copy log in with a password and a CSRF token."""
    environment = {
        **dbnd_environment,
        "DBND__CORE__DBND_USER": tracker.account.username,
        "DBND__CORE__DBND_PASSWORD": tracker.account.password,
    }
    del environment["DBND__CORE__DATABAND_ACCESS_TOKEN"]
    run_script(environment, _SCRIPT)
    script, child = tracker.runs()
    assert {m["key"] for m in script["tasks"][0]["metrics"]} >= {"sdk", "m"}
    assert {m["key"] for m in child["tasks"][0]["metrics"]} >= {"c"}


_HOOKS = """
import json, os
import dbnd
from mlflow_connections import _mlflow
from mlflow_connections_databand import _dbnd_plugin as plugin

def state():
    import mlflow
    return [_mlflow.tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")]

def enter(context):
    plugin.dbnd_on_pre_init_context(context)

def leave(context):
    plugin.dbnd_on_exit_context(context)

states = [state()]
outer, inner = object(), object()
with dbnd.config({"mlflow_tracking": {"databand_tracking": "True"}}):
    enter(outer)
    states.append(state())
    enter(inner)
    states.append(state())
    leave(inner)
    states.append(state())
    enter(inner)  # and it is never left, as after an error
    leave(outer)
    states.append(state())
    leave(outer)
    states.append(state())
print()
print(json.dumps(states))
"""


@pytest.mark.parametrize("is_set", [True, False])
def test_the_hooks_restore_the_tracking_uri_exactly(
    is_set: bool, tracker: Databand, dbnd_environment: Mapping[str, str]
) -> None:
    """Nested contexts, and one that an error left open, leave MLflow as it was, even without a URI."""
    environment = dict(dbnd_environment)
    if not is_set:
        del environment["MLFLOW_TRACKING_URI"]
    before, outer, inner, back, left, again = run_script(environment, _HOOKS)
    assert outer[1].startswith("dbnd://")
    assert inner == outer == back
    assert left == before == again
    assert before == [None, environment.get("MLFLOW_TRACKING_URI")]
