"""MLflow's entities as event data. Values are copied at once: callers reuse and extend their lists."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .vocabulary import AssessmentLogged, Dataset, MetricRow, ModelLogged, RunStarted, TraceLogged

__all__ = [
    "ARTIFACT_LOCATION",
    "TRACE_FILE",
    "Redact",
    "assessment",
    "dataset",
    "keep",
    "logged_model",
    "metrics",
    "mlmodel",
    "more_of_metric",
    "number",
    "pairs",
    "run",
    "spans",
    "texts",
    "trace",
    "trace_id",
]

ARTIFACT_LOCATION = "mlflow.artifactLocation"
"""The tag of a trace with the location of its files on the server."""
TRACE_FILE = "traces.json"
"""The file of a trace's spans, for a server that does not keep them in its database."""
_SERVERS_TAGS = frozenset({ARTIFACT_LOCATION, "mlflow.trace.spansLocation"})

Redact = Callable[[str, str], str]
"""Receives a name and a value and returns the value to keep, for params, tags and URIs."""


def keep(_name: str, value: str) -> str:
    """Return the value unchanged: the redaction of a faithful copy."""
    return value


def metrics(entities: Iterable[Any]) -> list[MetricRow]:
    """Return a row per metric: key, value, time in ms and step, then the fields of MLflow 3."""
    return [_metric(entity) for entity in entities]


def _metric(entity: Any) -> MetricRow:
    row = [entity.key, number(entity.value), entity.timestamp, entity.step or 0]
    return [*row, more] if (more := more_of_metric(entity)) else row


def more_of_metric(entity: Any) -> dict[str, Any] | None:
    """Return the fields of a metric in MLflow 3: its model and its dataset; None for most metrics."""
    try:
        values: tuple[Any, ...] = (entity.model_id, entity.dataset_name, entity.dataset_digest)
    except AttributeError:
        values = tuple(getattr(entity, name, None) for name in _MORE_OF_METRIC)
    if any(values):
        return {name: value for name, value in zip(_MORE_OF_METRIC, values, strict=True) if value}
    return None


_MORE_OF_METRIC = ("model_id", "dataset_name", "dataset_digest")


def number(value: Any) -> Any:
    """Return a double, as MLflow stores it: MLflow also loses digits of integers beyond 2**53."""
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
    """Return all of MLflow 3's data of a logged model, except its files."""
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


def trace_id(info: Any) -> str:
    """Return the ID of a trace, which MLflow 2 calls its request ID."""
    return str(getattr(info, "trace_id", None) or info.request_id)


def trace(
    info: Any, experiment_name: str | None, redact: Redact, location: str | None = None
) -> TraceLogged:
    """Return the data of a trace, without its spans and assessments.

    Args:
        info: A `TraceInfo`, of MLflow 2 or 3.
        experiment_name: The name of its experiment.
        redact: Applied to texts.
        location: The URI of its files; by default the one in its tags.
    """
    tags = {k: v for k, v in (info.tags or {}).items() if k not in _SERVERS_TAGS}
    location = location or (info.tags or {}).get(ARTIFACT_LOCATION) or ""
    state = getattr(info, "state", None) or info.status
    previews = {
        name: text and redact(name, str(text))
        for name in ("request_preview", "response_preview")
        for text in [getattr(info, name, None)]
    }
    return {
        "experiment_id": str(info.experiment_id),
        "experiment_name": experiment_name,
        "state": str(getattr(state, "value", state)),
        "start_time": info.timestamp_ms,
        "duration": info.execution_time_ms,
        "client_request_id": getattr(info, "client_request_id", None),
        "request_preview": previews["request_preview"],
        "response_preview": previews["response_preview"],
        "metadata": texts(info.request_metadata, redact),
        "tags": texts(tags, redact),
        "artifact_location": redact("artifact_location", location),
    }


def spans(entities: Iterable[Any], redact: Redact) -> list[Mapping[str, Any]]:
    """Return spans as MLflow writes them in JSON."""
    return [_redacted("", entity.to_dict(), redact) for entity in entities]


def assessment(
    entity: Any, redact: Redact, assessment_id: str | None = None
) -> AssessmentLogged | None:
    """Return MLflow's data of an assessment, or None for kinds that are not copied.

    Those are references to issues, which are separate entities.

    Args:
        entity: A feedback or an expectation.
        redact: Applied to texts.
        assessment_id: The ID from the server; by default the entity's own.
    """
    kind = "expectation" if getattr(entity, "expectation", None) is not None else "feedback"
    value = getattr(entity, kind, None)
    if value is None:
        return None
    error = getattr(value, "error", None)
    return {
        "assessment_id": str(assessment_id or entity.assessment_id),
        "name": entity.name,
        "kind": kind,
        "value": _redacted(entity.name, value.value, redact),
        "error": error and [error.error_code, error.error_message, error.stack_trace],
        "source": [entity.source.source_type, str(entity.source.source_id)],
        "source_run": getattr(entity, "run_id", None),
        "span_id": entity.span_id,
        "rationale": entity.rationale and redact("rationale", entity.rationale),
        "metadata": texts(entity.metadata, redact),
        "created": entity.create_time_ms,
        "updated": entity.last_update_time_ms,
        "overrides": getattr(entity, "overrides", None),
    }


def _redacted(name: str, value: Any, redact: Redact) -> Any:
    """Redact every text in nested JSON, each under the name of its key."""
    if isinstance(value, Mapping):
        return {str(k): _redacted(str(k), item, redact) for k, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(name, item, redact) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(name, str(value))
