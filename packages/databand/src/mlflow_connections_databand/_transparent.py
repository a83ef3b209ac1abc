"""Duplication of stores whose own URI must stay: databricks, azureml and SageMaker's ARNs.

MLflow asks in dozens of places whether the tracking URI is Databricks', and the plugins of Azure
and AWS read theirs anew on each request, so a composite URI would break them. For these the
tracking URI stays, one variable says what to duplicate, and the builder of the scheme is wrapped.
MLflow loads this module while it is imported: nothing of MLflow at its top.
"""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

VARIABLE = "MLFLOW_CONNECTIONS_DATABAND"
"""Holds a composite URI while a store is duplicated transparently; children inherit it."""

_SCHEMES = ("databricks", "azureml", "arn")
_MARK = "_mlflow_connections_databand"
_UTILS = "mlflow.tracking._tracking_service.utils"


def is_transparent(uri: str) -> bool:
    """Tell whether this tracking URI must stay as it is."""
    return uri.partition(":")[0] in _SCHEMES


class Activation:
    """Wraps the builders when MLflow is imported; as a run context it adds nothing.

    MLflow loads the group `mlflow.run_context_provider` after all stores are registered, those of
    other plugins too, whose order among themselves is undefined.
    """

    def __init__(self) -> None:
        wrap_builders()

    def in_context(self) -> bool:
        """Never: there are no tags to add."""
        return False

    def tags(self) -> dict[str, str]:
        """Give no tags."""
        return {}


def wrap_builders() -> None:
    """Wrap the builder of each scheme that is registered. A second call does nothing."""
    registry = getattr(sys.modules.get(_UTILS), "_tracking_store_registry", None)
    builders = getattr(registry, "_registry", {})
    for scheme in {*_SCHEMES, *_asked_for()}:
        builder = builders.get(scheme)
        if builder is not None and not hasattr(builder, _MARK):
            builders[scheme] = _wrapped(builder)


def _asked_for() -> set[str]:
    """Give the scheme of the store that the variable names: whoever sets it may name any store."""
    composite = os.environ.get(VARIABLE)
    if not composite:
        return set()
    from ._uri import parse

    return {(parse(composite).inner or "").partition(":")[0]}


def make_ready() -> None:
    """Wrap the builders in a process that has MLflow, and let it build these stores anew.

    MLflow keeps a store for as long as its URI stays the same, and here it does.
    """
    wrap_builders()
    registry = getattr(sys.modules.get(_UTILS), "_tracking_store_registry", None)
    if registry is not None:
        type(registry)._get_store_with_resolved_uri.cache_clear()


def duplicated(uri: str) -> str | None:
    """Give the composite URI in force for a store's own URI; None where it is not duplicated."""
    composite = os.environ.get(VARIABLE)
    if not composite:
        return None
    from ._uri import parse

    return composite if parse(composite).inner == uri else None


def _wrapped(builder: Callable[..., Any]) -> Callable[..., Any]:
    # Looks like the builtin builder: MLflow takes the module of a builder for its origin.
    @functools.wraps(builder)
    def build(store_uri: str, artifact_uri: str | None = None, **more: Any) -> Any:
        store = builder(store_uri=store_uri, artifact_uri=artifact_uri, **more)
        composite = duplicated(store_uri)
        if composite is None:
            return store
        from ._store import duplicate

        return duplicate(store, composite, while_true=lambda: duplicated(store_uri) is not None)

    setattr(build, _MARK, True)
    return build
