"""MLflow's entities as JSON that no secret is in. Copied at once: callers reuse and extend their lists."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from mlflow_connections.secrets import looks_secret, mask_uri

MASK = "***"
"""What stands where a secret stood."""

Row = list[Any]


def metrics(entities: Iterable[Any]) -> list[Row]:
    """Give a row per metric: key, value, time in ms, step, and more where MLflow 3 knows more."""
    return [_metric(entity) for entity in entities]


def _metric(entity: Any) -> Row:
    row = [entity.key, _number(entity.value), entity.timestamp, entity.step or 0]
    # MLflow 2 knows neither.
    more = {
        name: value
        for name in ("model_id", "dataset_name", "dataset_digest")
        if (value := getattr(entity, name, None))
    }
    return [*row, more] if more else row


def _number(value: Any) -> Any:
    """A double, as MLflow stores it: a whole number beyond 2**53 loses digits there too."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return str(value)


def pairs(entities: Iterable[Any]) -> dict[str, str]:
    """Give names and values of params or tags; the value of a secret's name is masked."""
    return {str(entity.key): masked(entity.key, entity.value) for entity in entities or ()}


def masked(name: str, value: Any) -> str:
    """Give a value as anybody may see it."""
    if looks_secret(str(name)):
        return MASK
    text = str(value)
    return mask_uri(text) if "://" in text else text


def run(entity: Any, experiment_name: str | None) -> dict[str, Any]:
    """Give what identifies a run: its info and its tags. No metric."""
    info = entity.info
    tags = {str(k): masked(k, v) for k, v in entity.data.tags.items()}
    return {
        "experiment_id": str(info.experiment_id),
        "experiment_name": experiment_name,
        "run_name": getattr(info, "run_name", None) or tags.get("mlflow.runName"),
        "user": info.user_id or tags.get("mlflow.user"),
        "status": info.status,
        "start_time": info.start_time,
        "end_time": info.end_time,
        "artifact_uri": mask_uri(info.artifact_uri or ""),
        "parent": tags.get("mlflow.parentRunId"),
        "tags": tags,
    }


def dataset(entity: Any) -> dict[str, Any]:
    """Give one dataset input's metadata."""
    data = entity.dataset
    return {
        "name": data.name,
        "digest": data.digest,
        "source_type": data.source_type,
        "source": masked("source", data.source),
        "schema": _parsed(data.schema),
        "profile": _parsed(data.profile),
        "tags": pairs(entity.tags or ()),
    }


def logged_model(entity: Any) -> dict[str, Any]:
    """Give what MLflow 3 knows of a logged model."""
    return {
        "model_id": entity.model_id,
        "name": entity.name,
        "model_type": entity.model_type,
        "status": str(getattr(entity.status, "value", entity.status)),
        "artifact_location": mask_uri(entity.artifact_location or ""),
        "params": {str(k): masked(k, v) for k, v in (entity.params or {}).items()},
        "tags": {str(k): masked(k, v) for k, v in (entity.tags or {}).items()},
    }


def recorded_model(model: Any) -> dict[str, Any]:
    """Give what a model's MLmodel file says of it, as MLflow 2 records it."""
    content: Mapping[str, Any] = model.get_tags_dict()
    return {
        "artifact_path": content.get("artifact_path"),
        "model_uuid": content.get("model_uuid"),
        "utc_time_created": str(content.get("utc_time_created")),
        "flavors": sorted(content.get("flavors") or ()),
    }


def _parsed(text: str | None) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
