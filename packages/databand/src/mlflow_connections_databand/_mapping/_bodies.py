"""The bodies of requests and their rows, in the form of dbnd 1.0.34.1."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ._values import MAX_TEXT, Ids, definition_of, ids_of, param, time_of

PROTOCOL = "1.0.34.1"
"""The version of dbnd whose protocol this implements."""

STATES = {
    "RUNNING": "RUNNING",
    "SCHEDULED": "SCHEDULED",
    "FINISHED": "SUCCESS",
    "FAILED": "FAILED",
    "KILLED": "CANCELLED",
}
"""MLflow's run status, and Databand's state of a run and of a task."""

_SOURCE = "UpdateSource.generic_tracking"

Data = Mapping[str, Any]


def state_of(status: str) -> str:
    """Return Databand's state; a status that only another backend knows counts as running."""
    return STATES.get(status, "RUNNING")


def job_of(context: Data) -> str:
    """Return the name of a run's job: its experiment's name, or its ID if the store returns no name."""
    name = context.get("experiment_name")
    if not name and (experiment_id := context.get("experiment_id")):
        name = f"experiment {experiment_id}"
    return name or ""


def init_run(run_id: str, data: Data) -> dict[str, Any]:
    """Announce a run with its one task; a run that was announced before is only updated."""
    ids, context, tags = ids_of(run_id), data["run"], data["tags"]
    started, user = time_of(context["started"]), data["user"] or "unknown"
    root, job = _root(run_id, context), job_of(context)
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
            "task_runs_info": task_runs_info(
                run_id, context, data.get("params", {}), data["status"]
            ),
            "new_run_info": {
                "run_uid": ids.run,
                "job_name": job,
                "project_name": None,
                "user": user,
                "name": data["run_name"] or run_id,
                "description": tags.get("mlflow.note.content", "")[:MAX_TEXT] or None,
                "state": state_of(data["status"]),
                "start_time": started,
                "end_time": None,
                "dag_id": job,
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


def add_task_runs(run_id: str, context: Data, params: Data) -> dict[str, Any]:
    """Add params to a run's task: they are part of the task's own record."""
    info = task_runs_info(run_id, context, params, "RUNNING", is_update=True)
    return {"source": "generic_tracking", "task_runs_info": info}


def task_runs_info(
    run_id: str, context: Data, params: Data, status: str, is_update: bool = False
) -> dict[str, Any]:
    """Describe a run's one task."""
    ids, job = ids_of(run_id), job_of(context)
    started = time_of(context["started"])
    root = _root(run_id, context)
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
    """Return a row with the state of a run's task."""
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


def dataset_row(owner: Data, dataset: Data, at: int) -> dict[str, Any]:
    """Return the row of a dataset that a run has read."""
    schema, profile = _parsed(dataset.get("schema")), _parsed(dataset.get("profile"))
    columns = _columns(schema)
    rows = profile.get("num_rows") if isinstance(profile, Mapping) else None
    shape = None if rows is None and not columns else [rows, len(columns) or None]
    return {
        **owner,
        "operation_path": _source_path(dataset),
        "dataset_uri": f"mlflow:{dataset['name']}@{dataset['digest']}",
        "operation_type": "read",
        "operation_status": "OK",
        "operation_error": None,
        "operation_source": "mlflow",
        "timestamp": time_of(at),
        "value_preview": None if profile is None else _text(profile),
        "data_dimensions": shape,
        "data_schema": {
            "type": str(dataset["source_type"]),
            "columns": list(columns),
            "dtypes": columns,
            "shape": shape,
        },
        "query": None,
        "columns_stats": [],
        "with_partition": None,
    }


def dataset_note(dataset: Data) -> dict[str, Any]:
    """Return all known facts about a dataset, its schema and profile as JSON."""
    parsed = {name: _parsed(dataset[name]) for name in ("schema", "profile")}
    return {**dataset, **parsed}


def target_row(owner: Data, run_id: str, path: str, size: int | None) -> dict[str, Any]:
    """Return the row of an artifact that a run has written, under MLflow's own URI."""
    schema: dict[str, Any] = {"type": "mlflow.artifact"}
    if size is not None:
        schema["size.bytes"] = size
    return {
        **owner,
        "target_path": f"runs:/{run_id}/{path}",
        "param_name": None,
        "task_def_uid": None,
        "operation_type": "write",
        "operation_status": "OK",
        "value_preview": None,
        "data_dimensions": None,
        "data_schema": json.dumps(schema),
        "data_hash": None,
    }


def _root(run_id: str, context: Data) -> dict[str, Any]:
    """Name the root run of a nested run, as dbnd does for runs within runs."""
    root: dict[str, Any] = {
        "root_run_uid": ids_of(context.get("root") or run_id).run,
        "root_run_url": None,
        "root_task_run_uid": None,
        "root_task_run_attempt_uid": None,
    }
    if attempt := context.get("root_extra"):
        root["root_run_uid"] = attempt["run_uid"]
    if attempt := context.get("parent_extra"):
        root["root_task_run_uid"] = attempt["task_run_uid"]
        root["root_task_run_attempt_uid"] = attempt["task_run_attempt_uid"]
    elif context.get("parent"):
        ids = ids_of(context["parent"])
        root["root_task_run_uid"], root["root_task_run_attempt_uid"] = ids.task_run, ids.attempt
    return root


def _columns(schema: Any) -> dict[str, str]:
    """Read MLflow's column specification; a tensor's or an unknown schema has no columns."""
    specification = schema.get("mlflow_colspec") if isinstance(schema, Mapping) else None
    if not isinstance(specification, list):
        return {}
    return {
        str(column.get("name", position)): str(column.get("type"))
        for position, column in enumerate(specification)
        if isinstance(column, Mapping)
    }


def _source_path(dataset: Data) -> str:
    """Return the origin of a dataset: the URI in its source, or else its name and digest."""
    source = dataset.get("source")
    try:
        parsed = json.loads(source) if source else {}
    except ValueError:
        return str(source)[:MAX_TEXT]
    for key in ("uri", "url", "path"):
        if isinstance(parsed, dict) and parsed.get(key):
            return str(parsed[key])[:MAX_TEXT]
    return f"mlflow:{dataset['name']}@{dataset['digest']}"


def _parsed(text: str | None) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value))[:MAX_TEXT]


def _date(time: str) -> str:
    return datetime.fromisoformat(time).date().isoformat()
