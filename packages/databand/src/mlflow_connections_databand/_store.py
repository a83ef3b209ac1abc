"""Stores behind a composite URI: MLflow's own, the tracking store with its copy for Databand."""

import inspect
import logging
from collections.abc import Callable
from typing import Any

from mlflow_connections.secrets import mask_uri

from ._uri import is_composite, parse

logger = logging.getLogger(__name__)


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """Build the inner tracking store, and duplicate it."""
    from mlflow.tracking._tracking_service import utils

    inner_uri = inner_tracking_uri(store_uri)
    registry: Any = utils._tracking_store_registry
    build = registry.get_store_builder(inner_uri)
    return duplicate(build(store_uri=inner_uri, artifact_uri=artifact_uri), store_uri)


def duplicate(store: Any, composite: str, while_true: Callable[[], bool] = lambda: True) -> Any:
    """Give the same store, whose accepted calls Databand gets a copy of.

    Args:
        store: Any tracking store of MLflow's.
        composite: The composite URI, which says where the copy goes.
        while_true: Asked before each event; nothing is copied while it says no.
    """
    from ._artifacts import capture_artifacts
    from ._capture import Recorder
    from ._delegate import delegate
    from ._outboxes import outbox_for

    recorder = Recorder(store, outbox_for(parse(composite)), while_true)
    capture_artifacts()
    return delegate(store, recorder.methods())


def model_registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:
    """Build the model registry that belongs to the inner store."""
    from mlflow.tracking._model_registry import utils

    uri = inner_tracking_uri(store_uri)
    tracking = inner_tracking_uri(tracking_uri) if tracking_uri else uri
    registry_uri = _registry_uri(uri)
    get_registry: Any = utils._get_store_registry
    build = get_registry().get_store_builder(registry_uri)
    # As MLflow does: a builder of an old plugin may not know the tracking URI.
    if "tracking_uri" in inspect.signature(build).parameters:
        return build(store_uri=registry_uri, tracking_uri=tracking)
    return build(store_uri=registry_uri)


def scorer_store(tracking_uri: str) -> Any:
    """Build the inner store's scorers; those of a server go through the duplicating store."""
    from mlflow.genai.scorers import registry

    stores: Any = registry._scorer_store_registry
    build = stores.get_store_builder(inner_tracking_uri(tracking_uri))
    through_tracking = build is registry.MlflowTrackingStore
    return build(tracking_uri if through_tracking else inner_tracking_uri(tracking_uri))


def labeling_store(tracking_uri: str) -> Any:
    """Build the inner store's labelling sessions."""
    from mlflow.genai.labeling import stores

    uri = inner_tracking_uri(tracking_uri)
    return stores._labeling_store_registry.get_store_builder(uri)(tracking_uri=uri)


def workspace_provider(workspace_uri: str) -> Any:
    """Build the inner store's workspaces."""
    from mlflow.tracking._workspace import registry

    uri = inner_tracking_uri(workspace_uri)
    stores: Any = registry._get_workspace_store_registry()
    return stores.get_store_builder(uri)(workspace_uri=uri)


def inner_tracking_uri(uri: str) -> str:
    """Give the URI of the inner store: as written, else the current one, else MLflow's default.

    A URI that is not composite is its own.
    """
    from mlflow.tracking._tracking_service import utils

    if not is_composite(uri):
        return uri
    if inner := parse(uri).inner:
        return inner
    current: str = utils.get_tracking_uri()
    if not is_composite(current):
        return current
    if inner := parse(current).inner:
        return inner
    default = _default_tracking_uri()
    _tell_default(mask_uri(uri), mask_uri(default))
    return default


def _default_tracking_uri() -> str:
    """Give the URI that MLflow uses where nobody sets one."""
    from mlflow.tracking._tracking_service import utils

    from ._entry import VARIABLE_AT_IMPORT

    if VARIABLE_AT_IMPORT and not is_composite(VARIABLE_AT_IMPORT):
        return VARIABLE_AT_IMPORT
    # MLflow 2.22 has no such function, and only the file store for a default.
    default: str = getattr(utils, "_get_default_tracking_uri", lambda: "mlruns")()
    return default


_told: set[str] = set()


def _tell_default(uri: str, default: str) -> None:
    if uri not in _told:
        _told.add(uri)
        logger.warning(
            "%s names no MLflow store, so runs go to MLflow's default, %s; "
            "add ?duplicate_tracking_to=<quoted URI> to name another.",
            uri,
            default,
        )


def _registry_uri(uri: str) -> str:
    from mlflow.tracking._model_registry import utils

    # Since MLflow 3 Databricks' registry is Unity Catalog's.
    derive = getattr(utils, "_get_default_registry_uri_for_tracking_uri", lambda uri: uri)
    registry_uri: str = derive(uri)
    return registry_uri
