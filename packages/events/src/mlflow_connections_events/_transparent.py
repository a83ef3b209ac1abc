"""Wrapping stores whose own URI must stay in force: Databricks', AzureML's and SageMaker's.

MLflow checks in dozens of places whether the tracking URI is Databricks', and the plugins of Azure and AWS
read theirs again on each request, so a composite URI would break them. For these stores the tracking URI
stays, a variable holds the composite URI, and the builders of the store's scheme and of its model registry
are wrapped. Those of registries are wrapped with the first tracking store, before which MLflow builds none:
when MLflow is imported, it has not registered them yet.

MLflow imports this module during its own import: the module must import neither MLflow nor anything
slow.
"""

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

from mlflow_connections.secrets import get_logger

from ._mlflow import builders, forget_cached_stores, registry_uris_of
from .composite import Composite, is_composite, parse

PREFIX = "MLFLOW_CONNECTIONS_"
"""A variable with this prefix that holds a composite URI wraps that URI's inner store wherever it is used."""

_SCHEMES = ("databricks", "azureml", "arn")
_MARK = "_mlflow_connections_events"


def keeps_its_uri(uri: str) -> bool:
    """Return whether MLflow or its plugins must recognize this tracking URI."""
    return uri.partition(":")[0] in _SCHEMES


def activate() -> None:
    """Apply the variables in force to this process, if it has imported MLflow."""
    wrap_builders()
    forget_cached_stores()


def wrap_builders() -> None:
    """Wrap the builder of each scheme that is registered with MLflow. A second call changes nothing."""
    known = builders("tracking")
    named = {(composite.inner or "").partition(":")[0] for _, composite in _in_force()}
    for scheme in {*_SCHEMES, *named}:
        builder = known.get(scheme)
        if builder is not None and not hasattr(builder, _MARK):
            known[scheme] = _wrapped(builder)


def _in_force() -> Iterator[tuple[str, Composite]]:
    """Return the variables that hold a composite URI, with their URIs."""
    for variable, value in os.environ.items():
        if variable.startswith(PREFIX) and is_composite(value):
            try:
                yield variable, parse(value)
            except ValueError as error:
                # An exception would stop the import of MLflow.
                get_logger(__name__).warning(
                    "The environment variable %s is ignored: %s", variable, error
                )


def _wraps(variable: str, store_uri: str) -> bool:
    value = os.environ.get(variable)
    return value is not None and is_composite(value) and parse(value).inner == store_uri


def _wrapped(builder: Callable[..., Any]) -> Callable[..., Any]:
    # With the builtin builder's attributes: MLflow determines a builder's origin from its module.
    @functools.wraps(builder)
    def build(store_uri: str, artifact_uri: str | None = None, **more: Any) -> Any:
        make = functools.partial(builder, store_uri=store_uri, artifact_uri=artifact_uri, **more)
        for variable, composite in _in_force():
            if composite.inner == store_uri:
                enabled = functools.partial(_wraps, variable, store_uri)
                make = functools.partial(composite.wrap_tracking, make, enabled)
                _wrap_registries(store_uri)
        return make()

    setattr(build, _MARK, True)
    return build


def _wrap_registries(inner: str) -> None:
    """Wrap the builders of the model registries that a tracking store may have."""
    known = builders("model_registry")
    for uri in registry_uris_of(inner):
        scheme = uri.partition(":")[0]
        builder = known.get(scheme)
        if builder is not None and not hasattr(builder, _MARK):
            known[scheme] = _wrapped_registry(builder)


def _wrapped_registry(builder: Callable[..., Any]) -> Callable[..., Any]:
    # MLflow reads the parameters of the builtin builder to know what it takes.
    @functools.wraps(builder, updated=())
    def build(store_uri: str, **more: Any) -> Any:
        make = functools.partial(builder, store_uri=store_uri, **more)
        for variable, composite in _in_force():
            inner = composite.inner
            if (
                inner is not None
                and store_uri in registry_uris_of(inner)
                and more.get("tracking_uri") in {None, inner}
            ):
                enabled = functools.partial(_wraps, variable, inner)
                make = functools.partial(composite.wrap_registry, make, enabled)
        return make()

    setattr(build, _MARK, True)
    return build
