"""The bodies of requests, in the form that dbnd 1.0.34.1 sends them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ._ids import Ids, definition_of, ids_of
from ._values import LONGEST, param, time_of

PROTOCOL = "1.0.34.1"
"""The version of dbnd whose protocol this speaks."""

STATES = {
    "RUNNING": "RUNNING",
    "SCHEDULED": "SCHEDULED",
    "FINISHED": "SUCCESS",
    "FAILED": "FAILED",
    "KILLED": "CANCELLED",
}
"""MLflow's run status, and Databand's state of a run and of a task."""


def state_of(status: str) -> str:
    """Give Databand's state; a status that only another backend knows counts as running."""
    return STATES.get(status, "RUNNING")


_SOURCE = "UpdateSource.generic_tracking"

Data = Mapping[str, Any]


def init_run(run_id: str, data: Data) -> dict[str, Any]:
    """Announce a run with its one task; an announced one is only brought up to date."""
    ids, of, tags = ids_of(run_id), data["of"], data["tags"]
    started, user = time_of(of["started"]), data["user"] or "unknown"
    root = _root(run_id, of)
    return {
        "version": PROTOCOL,
        "init_args": {
            "run_uid": ids.run,
            "root_run_uid": root["root_run_uid"],
            "driver_task_uid": ids.task_run,
            "source": _SOURCE,
            "update_existing": bool(data["resumed"]),
            "task_run_env": {
                "uid": ids.env,
                "cmd_line": tags.get("mlflow.source.name", ""),
                "user": user,
                "user_data": "",
                "machine": "",
                "heartbeat": started,
                "databand_version": PROTOCOL,
                "user_code_version": tags.get("mlflow.source.git.commit", ""),
                "user_code_committed": True,
                "project_root": "",
            },
            "task_runs_info": task_runs_info(run_id, of, data.get("params", {}), data["status"]),
            "new_run_info": {
                "run_uid": ids.run,
                "job_name": of["job"],
                "project_name": None,
                "user": user,
                "name": data["run_name"] or run_id,
                "description": tags.get("mlflow.note.content", "")[:LONGEST] or None,
                "state": state_of(data["status"]),
                "start_time": started,
                "end_time": None,
                "dag_id": of["job"],
                "cmd_name": "mlflow",
                "execution_date": started,
                "target_date": _date(started),
                "version": run_id,
                "driver_name": "local",
                "is_archived": False,
                "env_name": "local",
                "cloud_type": "local",
                "trigger": "unknown",
                "task_executor": "",
                "root_run": root,
                "scheduled_run": None,
                "sends_heartbeat": False,
            },
            "scheduled_run_info": None,
            "af_with_monitor": False,
            "af_context": None,
            "tracking_source": None,
            "tracking_source_uid": None,
        },
    }


def add_task_runs(run_id: str, of: Data, params: Data) -> dict[str, Any]:
    """Add params to a run's task: they travel in the task's own record."""
    info = task_runs_info(run_id, of, params, "RUNNING", is_update=True)
    return {"source": "generic_tracking", "task_runs_info": info}


def task_runs_info(
    run_id: str, of: Data, params: Data, status: str, is_update: bool = False
) -> dict[str, Any]:
    """Describe a run's one task."""
    ids, job = ids_of(run_id), of["job"]
    started = time_of(of["started"])
    root = _root(run_id, of)
    return {
        "run_uid": ids.run,
        "root_run_uid": root["root_run_uid"],
        "task_run_env_uid": ids.env,
        "dynamic_task_run_update": is_update,
        "parent_child_map": [],
        "upstreams_map": [],
        "targets": [],
        "af_context": None,
        "parent_task_run_uid": root["root_task_run_uid"],
        "parent_task_run_attempt_uid": root["root_task_run_attempt_uid"],
        "task_definitions": [
            {
                "task_definition_uid": definition_of(job),
                "name": job,
                "family": job,
                "type": "python",
                "class_version": "",
                "module_source": None,
                "module_source_hash": None,
                "source": None,
                "source_hash": None,
                "task_param_definitions": [],
            }
        ],
        "task_runs": [
            {
                "task_run_uid": ids.task_run,
                "task_run_attempt_uid": ids.attempt,
                "task_definition_uid": definition_of(job),
                "run_uid": ids.run,
                "task_id": f"{job}__{ids.run[:8]}",
                "task_signature": ids.run[:8],
                "output_signature": ids.run[:8],
                "task_af_id": job,
                "execution_date": started,
                "name": job,
                "env": "",
                "command_line": "",
                "functional_call": "",
                "has_downstreams": False,
                "has_upstreams": False,
                "is_reused": False,
                "is_dynamic": is_update,
                "is_system": False,
                "is_skipped": False,
                "is_root": True,
                "state": state_of(status),
                "target_date": _date(started),
                "log_local": None,
                "log_remote": None,
                "version": run_id,
                "task_run_params": [param(name, value) for name, value in params.items()],
                "external_links": None,
            }
        ],
    }


def attempt_update(ids: Ids, status: str, at: int) -> dict[str, Any]:
    """Give a row that tells the state of a run's task."""
    return {
        "task_run_uid": ids.task_run,
        "task_run_attempt_uid": ids.attempt,
        "state": state_of(status),
        "timestamp": time_of(at),
        "error": None,
        "attempt_number": None,
        "source": _SOURCE,
        "start_date": None,
        "external_links_dict": None,
    }


def _root(run_id: str, of: Data) -> dict[str, Any]:
    """Tell which run a nested one belongs to: dbnd's own way for runs within runs."""
    root: dict[str, Any] = {
        "root_run_uid": ids_of(of.get("root") or run_id).run,
        "root_run_url": None,
        "root_task_run_uid": None,
        "root_task_run_attempt_uid": None,
    }
    if attempt := of.get("root_attempt"):
        root["root_run_uid"] = attempt["run_uid"]
    if attempt := of.get("parent_attempt"):
        root["root_task_run_uid"] = attempt["task_run_uid"]
        root["root_task_run_attempt_uid"] = attempt["task_run_attempt_uid"]
    elif of.get("parent"):
        ids = ids_of(of["parent"])
        root["root_task_run_uid"], root["root_task_run_attempt_uid"] = ids.task_run, ids.attempt
    return root


def _date(time: str) -> str:
    return datetime.fromisoformat(time).date().isoformat()
