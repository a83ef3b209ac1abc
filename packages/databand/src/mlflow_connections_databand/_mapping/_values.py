"""Values: what of MLflow's fits into Databand's metric, and the conventions for what does not."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

LONGEST = 5_000
"""Characters that Databand keeps of a text (`Metric.VALUE_MAX_LEN` in dbnd 1.0.34.1)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def time_of(milliseconds: int) -> str:
    """Give a time in UTC, as ISO 8601 with its offset.

    Raises:
        OverflowError: It is before the year 1 or after 9999.
    """
    return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat()


def metric(row: Sequence[Any], at: int) -> dict[str, Any]:
    """Give a user's metric.

    The value stays a plain number. Its step and MLflow 3's model and dataset have no field: they
    ride in `value_json` beside it, which dbnd's own Metric keeps without taking it for the value.
    A number that JSON does not have is text in `value_json` itself.
    """
    key, value, timestamp, step, *rest = row
    beside: dict[str, Any] = {"step": step} if step else {}
    beside.update(*rest)
    try:
        time = time_of(timestamp)
    except (OverflowError, TypeError):
        time, beside["timestamp"] = time_of(at), timestamp
    if isinstance(value, float) and math.isfinite(value):
        return _metric(key, time, "user", value=value, value_float=value, value_json=beside or None)
    beside["value"] = _name_of(value)
    return _metric(key, time, "user", value=beside, value_json=beside)


def note(key: str, value: Any, at: int) -> dict[str, Any]:
    """Give something that MLflow knows and Databand has no field for, as a metric `mlflow.<key>`."""
    time = time_of(at)
    key = f"mlflow.{key}"
    if isinstance(value, str) and len(value) <= LONGEST:
        return _metric(key, time, "system", value=value, value_str=value)
    # Databand cuts texts, but not what stands in JSON.
    whole = {"value": value} if isinstance(value, str) else _finite(value)
    return _metric(key, time, "system", value=whole, value_json=whole)


def param(name: str, value: str) -> dict[str, Any]:
    """Give a param of a task run, cut to what Databand keeps."""
    return {"parameter_name": name, "value_origin": "mlflow", "value": value[:LONGEST]}


def long_params(params: Mapping[str, str]) -> dict[str, str]:
    """Give the params whose values Databand would cut; they travel whole as notes too."""
    return {name: value for name, value in params.items() if len(value) > LONGEST}


def _finite(value: Any) -> Any:
    """Name the numbers that JSON does not have, at any depth: a dataset's profile may hold NaN."""
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
