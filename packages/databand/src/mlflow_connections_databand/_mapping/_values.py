"""Values and IDs in Databand's form, and the conventions for facts without a field."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

MAX_TEXT = 5_000
"""The maximum length of a text in Databand (`Metric.VALUE_MAX_LEN` in dbnd 1.0.34.1)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NAMESPACE = uuid5(NAMESPACE_URL, "https://pypi.org/project/mlflow-connections-databand")


class Ids(NamedTuple):
    """The IDs of one Databand run with its one task.

    Attributes:
        run: The run.
        task_run: Its task.
        attempt: The task's one attempt, which metrics belong to.
        env: The description of its environment.
    """

    run: str
    task_run: str
    attempt: str
    env: str


def ids_of(run_id: str) -> Ids:
    """Derive the IDs of a run, so that sending it twice changes nothing.

    MLflow's own run IDs are UUIDs and stay; those of other backends are hashed.
    """
    try:
        run = UUID(hex=run_id)
    except ValueError:
        run = uuid5(_NAMESPACE, run_id)
    return Ids(
        str(run), *(str(uuid5(run, part)) for part in ("task_run", "task_run_attempt", "env"))
    )


def definition_of(job: str) -> str:
    """Derive the ID of the task definition that all runs of a job share."""
    return str(uuid5(_NAMESPACE, f"job:{job}"))


def request_id(parts: str) -> str:
    """Derive the ID of a request from a text that names the parts of events in it."""
    return uuid5(_NAMESPACE, f"request:{parts}").hex


def time_of(milliseconds: int) -> str:
    """Return a time in UTC as ISO 8601 with its offset.

    Raises:
        OverflowError: It is before the year 1 or after 9999.
    """
    return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat()


def metric(row: Sequence[Any], at: int) -> dict[str, Any]:
    """Return a user's metric.

    The value stays a plain number. Its step, and MLflow 3's model and dataset, have no field: they
    are in the additional `value_json`, which dbnd's own Metric keeps without using it as the value.
    A number that JSON lacks is text in `value_json` itself.
    """
    key, value, timestamp, step, *rest = row
    extra: dict[str, Any] = {"step": step} if step else {}
    extra.update(*rest)
    try:
        time = time_of(timestamp)
    except (OverflowError, TypeError):
        time, extra["timestamp"] = time_of(at), timestamp
    if isinstance(value, float) and math.isfinite(value):
        return _metric(key, time, "user", value=value, value_float=value, value_json=extra or None)
    extra["value"] = _name_of(value)
    return _metric(key, time, "user", value=extra, value_json=extra)


def note(key: str, value: Any, at: int) -> dict[str, Any]:
    """Return a fact without a field in Databand, as a metric `mlflow.<key>`."""
    time = time_of(at)
    key = f"mlflow.{key}"
    if isinstance(value, str) and len(value) <= MAX_TEXT:
        return _metric(key, time, "system", value=value, value_str=value)
    # Databand truncates texts, but not JSON.
    whole = {"value": value} if isinstance(value, str) else _finite(value)
    return _metric(key, time, "system", value=whole, value_json=whole)


def param(name: str, value: str) -> dict[str, Any]:
    """Return a param of a task run, truncated to Databand's limit."""
    return {"parameter_name": name, "value_origin": "mlflow", "value": value[:MAX_TEXT]}


def long_params(params: Mapping[str, str]) -> dict[str, str]:
    """Return the params whose values Databand would truncate; they are also sent complete, as notes."""
    return {name: value for name, value in params.items() if len(value) > MAX_TEXT}


def _finite(value: Any) -> Any:
    """Replace numbers that JSON lacks by their names, at any depth: a dataset's profile may contain NaN."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return _name_of(value) if isinstance(value, float) and not math.isfinite(value) else value


def _name_of(value: Any) -> str:
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return str(value)


def _metric(key: str, timestamp: str, source: str, **values: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("value", "value_int", "value_float", "value_str", "value_json"))
    return {"key": key, "timestamp": timestamp, "source": source, **empty, **values}
