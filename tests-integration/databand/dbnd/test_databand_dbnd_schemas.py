"""Payloads and the stand-in's tables, checked against the schemas that dbnd ships."""

import json
import math
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from mlflow_connections_databand._mapping import TrackerCall, calls, merged
from mlflow_connections_outbox import Event
from mlflow_connections_sandbox._databand._check import Wrong
from mlflow_connections_sandbox._databand._schemas import BODIES

RUN, CHILD = "0123456789abcdef0123456789abcdef", "f" * 32
AT = 1_700_000_000_123
OF = {"job": "experiment", "started": AT}

SCHEMAS = {
    "init_run": "init_run_schema",
    "add_task_runs": "add_task_runs_schema",
    "update_task_run_attempts": "update_task_run_attempts_schema",
    "log_metrics": "log_metrics_schema",
    "log_datasets": "log_datasets_schema",
    "log_targets": "log_targets_schema",
    "set_run_state": "set_run_state_schema",
    "heartbeat": "heartbeat_schema",
    "save_task_run_log": "save_task_run_log_schema",
    "save_external_links": "save_external_links_schema",
    "set_unfinished_tasks_state": "set_unfinished_tasks_state_schema",
}


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    """The real SDK's schemas, by endpoint."""
    import_module("dbnd")
    api: Any = import_module("dbnd.api.tracking_api")
    return {endpoint: getattr(api, name) for endpoint, name in SCHEMAS.items()}


def events() -> Iterator[Event]:
    """Return one event of each kind and convention."""
    run = {
        "experiment_id": "1",
        "experiment_name": "experiment",
        "run_name": "name",
        "user": None,
        "status": "RUNNING",
        "start_time": AT,
        "end_time": None,
        "artifact_uri": "",
        "parent": None,
        "tags": {"mlflow.note.content": "x" * 6_000},
        "resumed": False,
        "of": OF,
        "params": {"early": "1"},
    }
    yield Event(RUN, "run", AT, run)
    of = {**OF, "parent": RUN, "root": RUN}
    yield Event(CHILD, "run", AT, {**run, "parent": RUN, "of": of, "resumed": True})
    rows = [["m", v, AT, 3, {"model_id": "m-1"}] for v in (0.5, math.nan, math.inf, 1e300)]
    rows.append(["future", 1.0, AT * 10**6, 0])
    yield Event(RUN, "log", AT, {"metrics": rows, "params": {"p": "y" * 6_000}, "of": OF})
    yield Event(RUN, "log", AT, {"tags": {"t": "z" * 6_000, "u": "v"}})
    yield Event(RUN, "delete_tag", AT, {"key": "u", "of": OF})
    dataset = {
        "name": "d",
        "digest": "abc",
        "source_type": "local",
        "source": json.dumps({"uri": "s3://b/k"}),
        "schema": {"mlflow_colspec": [{"name": "x", "type": "double"}]},
        "profile": {"num_rows": 3},
        "tags": {"mlflow.data.context": "training"},
    }
    models = [{"model_id": "m-1", "role": "output", "step": 0}]
    yield Event(RUN, "inputs", AT, {"datasets": [dataset], "models": models, "of": OF})
    yield Event(
        RUN, "artifacts", AT, {"files": [["a", 5], ["b", None]], "count": 9, "bytes": 5, "of": OF}
    )
    yield Event(RUN, "model", AT, {"model_id": "m-1", "name": "n", "of": OF})
    yield Event(RUN, "lifecycle", AT, {"stage": "deleted", "of": OF})
    yield Event(RUN, "status", AT, {"status": "KILLED", "end_time": AT, "params": {}, "of": OF})


def all_calls() -> list[TrackerCall]:
    """Return the requests of all events."""
    return merged(calls(list(events())))


@pytest.mark.parametrize("endpoint", sorted({call.endpoint for call in all_calls()}))
def test_dbnds_own_schema_accepts_every_payload(endpoint: str, schemas: dict[str, Any]) -> None:
    """The schema loads it without an error and knows each of its fields; so does the stand-in."""
    schema = schemas[endpoint]
    for call in all_calls():
        if call.endpoint == endpoint:
            BODIES[endpoint](call.body, "")
            assert unknown(schema, call.body) == []
            # A strict schema of this vendored version raises instead of returning errors.
            assert not schema.load(json.loads(json.dumps(call.body, allow_nan=False))).errors


def test_dbnds_metric_keeps_the_value_if_a_step_is_added(schemas: dict[str, Any]) -> None:
    """The convention for steps depends on this: the number is the value, and the JSON is kept."""
    import_module("dbnd")
    metric_schema: Any = import_module("dbnd.api.serialization.common").MetricSchema(strict=True)
    rows = [r for c in all_calls() if c.endpoint == "log_metrics" for r in c.body["metrics_info"]]
    body = next(row["metric"] for row in rows if row["metric"]["value"] == 0.5)
    metric = metric_schema.load(body).data
    assert metric.value == 0.5
    assert metric.value_json == {"step": 3, "model_id": "m-1"}


@pytest.mark.parametrize("endpoint", sorted(SCHEMAS))
def test_the_stand_in_knows_no_field_that_dbnd_does_not(
    endpoint: str, schemas: dict[str, Any]
) -> None:
    """Each field that the stand-in requires is in dbnd's schema."""
    with pytest.raises(Wrong, match="lacks the fields") as caught:
        BODIES[endpoint]({}, "")
    asked = {name.strip() for name in str(caught.value).partition(":")[2].split(",")}
    assert asked <= names(schemas[endpoint])


def names(schema: Any) -> set[str]:
    """Return the names under which a schema accepts its fields."""
    return {field.load_from or name for name, field in schema.fields.items()}


def unknown(schema: Any, body: Any, place: str = "") -> list[str]:
    """Return the fields of a body that a schema does not know, at any depth."""
    if isinstance(body, list):
        return [text for item in body for text in unknown(schema, item, place)]
    if not isinstance(body, dict):
        return []
    fields = {field.load_from or name: field for name, field in schema.fields.items()}
    found = [f"{place}.{name}" for name in body if name not in fields]
    for name, value in body.items():
        inner = getattr(fields.get(name), "schema", None)
        if inner is not None:
            found += unknown(inner, value, f"{place}.{name}")
    return found
