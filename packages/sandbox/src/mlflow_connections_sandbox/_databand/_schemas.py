"""The bodies that the tracker accepts, as dbnd 1.0.34.1 sends them.

They come from recorded traffic of the real SDK and from the field lists of its schemas, and tests
check the tables against both. A field that the SDK always sends is required.
"""

from ._check import (
    Check,
    anything,
    boolean,
    day,
    fields,
    integer,
    list_of,
    mapping,
    moment,
    number,
    one_of,
    or_null,
    short_text,
    text,
    uid,
)

RUN_STATE = one_of("RUNNING", "SUCCESS", "FAILED", "SHUTDOWN", "CANCELLED", "SCHEDULED")
TASK_STATE = one_of(
    *("SCHEDULED", "QUEUED", "RUNNING", "SUCCESS", "FAILED", "CANCELLED", "SHUTDOWN", "DEFERRED"),
    *("UPSTREAM_FAILED", "SKIPPED", "UP_FOR_RETRY", "REMOVED"),
)

_param_definition = fields(
    {
        "name": text,
        "default": or_null(text),
        "description": text,
        "group": text,
        "kind": text,
        "load_on_build": boolean,
        "significant": boolean,
        "value_type": text,
    }
)

_task_definition = fields(
    {
        "task_definition_uid": uid,
        "name": text,
        "family": text,
        "type": text,
        "class_version": text,
        "module_source": or_null(text),
        "module_source_hash": or_null(text),
        "source": or_null(text),
        "source_hash": or_null(text),
        "task_param_definitions": list_of(_param_definition),
    }
)

_task_run = fields(
    {
        "task_run_uid": uid,
        "task_run_attempt_uid": uid,
        "task_definition_uid": uid,
        "run_uid": uid,
        "task_id": text,
        "task_signature": text,
        "output_signature": text,
        "task_af_id": text,
        "execution_date": or_null(moment),
        "name": text,
        "env": text,
        "command_line": text,
        "functional_call": text,
        "has_downstreams": boolean,
        "has_upstreams": boolean,
        "is_reused": boolean,
        "is_dynamic": boolean,
        "is_system": boolean,
        "is_skipped": boolean,
        "is_root": boolean,
        "state": TASK_STATE,
        "target_date": or_null(day),
        "log_local": or_null(text),
        "log_remote": or_null(text),
        "version": text,
        "task_run_params": list_of(
            fields({"parameter_name": text, "value_origin": text, "value": or_null(short_text)})
        ),
        "external_links": or_null(mapping),
    }
)

_airflow_context = or_null(mapping)

_task_runs_info = fields(
    {
        "run_uid": uid,
        "root_run_uid": uid,
        "task_run_env_uid": uid,
        "task_runs": list_of(_task_run),
        "task_definitions": list_of(_task_definition),
        "targets": list_of(mapping),
        "parent_child_map": list_of(list_of(uid)),
        "upstreams_map": list_of(list_of(uid)),
        "dynamic_task_run_update": boolean,
        "af_context": _airflow_context,
        "parent_task_run_uid": or_null(uid),
        "parent_task_run_attempt_uid": or_null(uid),
    }
)

_new_run_info = fields(
    {
        "run_uid": uid,
        "job_name": text,
        "project_name": or_null(text),
        "user": text,
        "name": text,
        "description": or_null(text),
        "state": RUN_STATE,
        "start_time": moment,
        "end_time": or_null(moment),
        "dag_id": text,
        "cmd_name": or_null(text),
        "execution_date": moment,
        "target_date": or_null(day),
        "version": or_null(text),
        "driver_name": text,
        "is_archived": boolean,
        "env_name": or_null(text),
        "cloud_type": text,
        "trigger": text,
        "task_executor": or_null(text),
        "root_run": fields(
            {
                "root_run_uid": uid,
                "root_run_url": or_null(text),
                "root_task_run_uid": or_null(uid),
                "root_task_run_attempt_uid": or_null(uid),
            }
        ),
        "scheduled_run": or_null(mapping),
        "sends_heartbeat": or_null(boolean),
        "external_links?": or_null(mapping),
    }
)

_task_run_env = fields(
    {
        "uid": uid,
        "cmd_line": text,
        "user": text,
        "machine": text,
        "databand_version": text,
        "user_code_version": text,
        "user_code_committed": boolean,
        "project_root": text,
        "user_data": text,
        "heartbeat": moment,
    }
)

_error = fields(
    {
        "msg": text,
        "help_msg": or_null(text),
        "databand_error": boolean,
        "exc_type": or_null(text),
        "nested": or_null(text),
        "show_exc_info": boolean,
        "traceback?": text,
        "user_code_traceback?": text,
    }
)

_metric = fields(
    {
        "task_run_attempt_uid": uid,
        "source": or_null(text),
        "target_meta_uid?": or_null(uid),
        "metric": fields(
            {
                "key": text,
                "timestamp": moment,
                "source": or_null(text),
                "value": anything,
                "value_int": or_null(integer),
                "value_float": or_null(number),
                "value_str": or_null(short_text),
                "value_json": anything,
            }
        ),
    }
)

_of_attempt = {"run_uid": uid, "task_run_uid": uid, "task_run_attempt_uid": uid}

_dataset = fields(
    {
        **_of_attempt,
        "task_run_name": text,
        "operation_path": or_null(text),
        "dataset_uri": or_null(text),
        "operation_type": one_of("read", "write", "delete"),
        "operation_status": one_of("OK", "NOK"),
        "operation_error": or_null(text),
        "operation_source": or_null(text),
        "timestamp": or_null(moment),
        "value_preview": or_null(text),
        "data_dimensions": or_null(list_of(or_null(integer))),
        "data_schema": anything,
        "query": or_null(text),
        "columns_stats": list_of(mapping),
        "with_partition": or_null(boolean),
    }
)

_target = fields(
    {
        **_of_attempt,
        "task_run_name": text,
        "target_path": text,
        "param_name": or_null(text),
        "task_def_uid": or_null(uid),
        "operation_type": one_of("init", "read", "write", "reuse", "log", "log_hist", "delete"),
        "operation_status": one_of("OK", "NOK"),
        "value_preview": or_null(text),
        "data_dimensions": or_null(list_of(integer)),
        "data_schema": or_null(text),
        "data_hash": or_null(text),
    }
)

BODIES: dict[str, Check] = {
    "init_run": fields(
        {
            "version": or_null(text),
            "init_args": fields(
                {
                    "run_uid": uid,
                    "root_run_uid": uid,
                    "driver_task_uid": or_null(uid),
                    "task_run_env": _task_run_env,
                    "task_runs_info": _task_runs_info,
                    "new_run_info": or_null(_new_run_info),
                    "scheduled_run_info": or_null(mapping),
                    "update_existing": boolean,
                    "af_with_monitor": boolean,
                    "source": or_null(text),
                    "af_context": _airflow_context,
                    "tracking_source": or_null(mapping),
                    "tracking_source_uid": or_null(text),
                }
            ),
        }
    ),
    "add_task_runs": fields({"task_runs_info": _task_runs_info, "source": or_null(text)}),
    "update_task_run_attempts": fields(
        {
            "task_run_attempt_updates": list_of(
                fields(
                    {
                        "task_run_uid": uid,
                        "task_run_attempt_uid": uid,
                        "state": or_null(TASK_STATE),
                        "timestamp": or_null(moment),
                        "error": or_null(_error),
                        "attempt_number": or_null(number),
                        "source": or_null(text),
                        "start_date": or_null(moment),
                        "external_links_dict": or_null(mapping),
                    }
                )
            )
        }
    ),
    "set_run_state": fields({"run_uid": uid, "state": RUN_STATE, "timestamp": or_null(moment)}),
    "set_unfinished_tasks_state": fields(
        {"run_uid": uid, "state": TASK_STATE, "timestamp": moment}
    ),
    "log_metrics": fields({"metrics_info": list_of(_metric)}),
    "log_datasets": fields({"datasets_info": list_of(_dataset)}),
    "log_targets": fields({"targets_info": list_of(_target)}),
    "heartbeat": fields({"run_uid": uid}),
    "save_task_run_log": fields(
        {"task_run_attempt_uid": uid, "log_body": or_null(text), "local_log_path": or_null(text)}
    ),
    "save_external_links": fields({"task_run_attempt_uid": uid, "external_links_dict": mapping}),
}
"""The schema of each endpoint of `/api/v1/tracking/`."""
