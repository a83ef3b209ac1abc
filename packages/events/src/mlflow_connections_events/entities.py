"""MLflow's entities as event data. Values are copied at once: callers reuse and extend their lists."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .vocabulary import Dataset, MetricRow, ModelLogged, RunStarted

__all__ = [
    "Redact",
    "dataset",
    "keep",
    "logged_model",
    "metrics",
    "mlmodel",
    "pairs",
    "run",
    "texts",
]

Redact = Callable[[str, str], str]
"""Receives a name and a value and returns the value to keep, for params, tags and URIs."""


def keep(_name: str, value: str) -> str:
    """Return the value as it is: the redaction of a faithful copy."""
    return value


def metrics(entities: Iterable[Any]) -> list[MetricRow]:
    """Return a row per metric: key, value, time in ms and step, then what only MLflow 3 knows."""
    return [_metric(entity) for entity in entities]


def _metric(entity: Any) -> MetricRow:
    row = [entity.key, _number(entity.value), entity.timestamp, entity.step or 0]
    # MLflow 2 has none of these attributes.
    more = {
        name: value
        for name in ("model_id", "dataset_name", "dataset_digest")
        if (value := getattr(entity, name, None))
    }
    return [*row, more] if more else row


def _number(value: Any) -> Any:
    """Return a double, as MLflow stores it: there too an integer beyond 2**53 loses digits."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return str(value)


def pairs(entities: Iterable[Any] | None, redact: Redact) -> dict[str, str]:
    """Return names and redacted values of param or tag entities."""
    return {str(e.key): redact(str(e.key), str(e.value)) for e in entities or ()}


def texts(values: Mapping[Any, Any] | None, redact: Redact) -> dict[str, str]:
    """Return names and redacted values of a mapping."""
    return {str(k): redact(str(k), str(v)) for k, v in (values or {}).items()}


def run(entity: Any, experiment_name: str | None, redact: Redact) -> RunStarted:
    """Return the info, params and tags of a run; its metrics are not part of its announcement."""
    info = entity.info
    tags = texts(entity.data.tags, redact)
    data: RunStarted = {
        "experiment_id": str(info.experiment_id),
        "experiment_name": experiment_name,
        "run_name": getattr(info, "run_name", None) or tags.get("mlflow.runName"),
        "user": info.user_id or tags.get("mlflow.user"),
        "status": info.status,
        "stage": info.lifecycle_stage,
        "start_time": info.start_time,
        "end_time": info.end_time,
        "artifact_uri": redact("artifact_uri", info.artifact_uri or ""),
        "parent": tags.get("mlflow.parentRunId"),
        "tags": tags,
    }
    if params := texts(entity.data.params, redact):
        data["params"] = params
    return data


def dataset(entity: Any, redact: Redact) -> Dataset:
    """Return the metadata of a dataset input."""
    data = entity.dataset
    return {
        "name": data.name,
        "digest": data.digest,
        "source_type": data.source_type,
        "source": redact("source", str(data.source)),
        "schema": data.schema,
        "profile": data.profile,
        "tags": pairs(entity.tags, redact),
    }


def logged_model(entity: Any, redact: Redact) -> ModelLogged:
    """Return all that MLflow 3 knows of a logged model, except its files."""
    return {
        "model_id": entity.model_id,
        "experiment_id": str(entity.experiment_id),
        "source_run": entity.source_run_id or None,
        "name": entity.name,
        "model_type": entity.model_type,
        "status": str(getattr(entity.status, "value", entity.status)),
        "created": entity.creation_timestamp,
        "artifact_location": redact("artifact_location", entity.artifact_location or ""),
        "params": texts(entity.params, redact),
        "tags": texts(entity.tags, redact),
    }


def mlmodel(model: Any, redact: Redact) -> Mapping[str, Any]:
    """Return the content of a model's MLmodel file, as MLflow 2 records it with a run."""
    content: Mapping[str, Any] = _redacted("", model.get_tags_dict(), redact)
    return content


def _redacted(name: str, value: Any, redact: Redact) -> Any:
    """Redact every text in nested JSON, each under the name of the key that holds it."""
    if isinstance(value, Mapping):
        return {str(k): _redacted(str(k), item, redact) for k, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(name, item, redact) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(name, str(value))
