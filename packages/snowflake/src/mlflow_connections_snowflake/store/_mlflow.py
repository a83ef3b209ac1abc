"""MLflow's private names and the differences between its versions, in one place."""

import inspect
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.utils.validation import _validate_metric, _validate_param, _validate_tag


def repository_arguments(**given: Any) -> dict[str, Any]:
    """Return the arguments that this MLflow's base class of artifact repositories accepts.

    MLflow 2.16 takes only the artifact's URI; 3 also takes the tracking and the registry URI.
    """
    known = inspect.signature(ArtifactRepository.__init__).parameters
    return {name: value for name, value in given.items() if name in known}


def validated(
    metrics: list[Metric], params: list[Param], tags: list[RunTag]
) -> tuple[list[Param], list[RunTag]]:
    """Check logged values by MLflow's own rules, and return the params and tags.

    MLflow 3 shortens values that are too long; MLflow 2 returns nothing.

    Raises:
        MlflowException: A key or a value is invalid.
    """
    for metric in metrics:
        _validate_metric(metric.key, metric.value, metric.timestamp, metric.step)
    return (
        [_validate_param(param.key, str(param.value)) or param for param in params],
        [_validate_tag(tag.key, str(tag.value)) or tag for tag in tags],
    )


def latest_metrics(run: Run) -> list[Metric]:
    """Return the latest value of each metric of a run, with its step and time."""
    found: list[Metric] = run.data._metric_objs
    return found


def register_scheme(scheme: str, tracking: Any, artifacts: Any, registry: Any) -> None:
    """Register a scheme with MLflow's tracking, artifact and model registry lookups."""
    from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry
    from mlflow.tracking._model_registry.utils import _get_store_registry
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    _tracking_store_registry.register(scheme, tracking)
    _artifact_repository_registry.register(scheme, artifacts)
    _get_store_registry().register(scheme, registry)
