"""The stores behind a composite URI: MLflow's own, some of which a product wraps."""

import functools
from typing import Any

from mlflow_connections.secrets import get_logger, mask_uri
from mlflow_connections.spark import remember_absence

from ._mlflow import (
    build_store,
    default_tracking_uri,
    registry_uri_for,
    scorers_use_tracking_store,
)
from .composite import TRACKING_URI_AT_IMPORT, inner_of, is_composite, parse

logger = get_logger(__name__)


def _always() -> bool:
    return True


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """Build the tracking store of a composite URI."""
    remember_absence()
    composite = parse(store_uri)
    inner = composite.inner or inner_tracking_uri(store_uri)
    return composite.wrap_tracking(
        lambda: build_store("tracking", inner, store_uri=inner, artifact_uri=artifact_uri), _always
    )


def model_registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:
    """Build the model registry that belongs to the inner store."""
    inner = inner_tracking_uri(store_uri)
    tracking = inner_tracking_uri(tracking_uri) if tracking_uri else inner
    uri = registry_uri_for(inner)
    return parse(store_uri).wrap_registry(
        lambda: build_store("model_registry", uri, store_uri=uri, tracking_uri=tracking), _always
    )


def scorer_store(tracking_uri: str) -> Any:
    """Build the inner store's scorers; those of a server are reached through the composite store."""
    inner = inner_tracking_uri(tracking_uri)
    uri = tracking_uri if scorers_use_tracking_store(inner) else inner
    return build_store("scorer", inner, tracking_uri=uri)


def labeling_store(tracking_uri: str) -> Any:
    """Build the inner store's labeling sessions."""
    inner = inner_tracking_uri(tracking_uri)
    return build_store("labeling", inner, tracking_uri=inner)


def workspace_provider(workspace_uri: str) -> Any:
    """Build the inner store's workspaces."""
    inner = inner_tracking_uri(workspace_uri)
    return build_store("workspace", inner, workspace_uri=inner)


def mlflow_artifacts(*args: Any, **kwargs: Any) -> Any:
    """Build MLflow's repository of proxied artifacts, which requires an http tracking URI."""
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

    return _resolving_inner(MlflowArtifactsRepository)(*args, **kwargs)


@functools.cache
def _resolving_inner(kind: type) -> type:
    def resolve_uri(_cls: type, artifact_uri: str, tracking_uri: str) -> str:
        resolved: str = kind.resolve_uri(artifact_uri, inner_tracking_uri(tracking_uri))  # type: ignore[attr-defined]  # MLflow's own class
        return resolved

    return type(kind.__name__, (kind,), {"resolve_uri": classmethod(resolve_uri)})


def inner_tracking_uri(uri: str) -> str:
    """Return the innermost URI of a composite one, and any other URI unchanged.

    If the composite URI names none, this is the tracking URI in force, or else MLflow's default.
    """
    from mlflow.tracking import get_tracking_uri

    if inner := inner_of(uri):
        return inner
    if inner := inner_of(get_tracking_uri()):
        return inner
    default = _default()
    _warn_of_default(mask_uri(uri), mask_uri(default))
    return default


def _default() -> str:
    if TRACKING_URI_AT_IMPORT and not is_composite(TRACKING_URI_AT_IMPORT):
        return TRACKING_URI_AT_IMPORT
    return default_tracking_uri()


@functools.cache
def _warn_of_default(uri: str, default: str) -> None:
    logger.warning(
        "%s names no MLflow store, so runs go to MLflow's default, %s. Name the store in the URI.",
        uri,
        default,
    )
