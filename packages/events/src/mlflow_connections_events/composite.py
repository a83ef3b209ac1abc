"""Composite URIs: tracking URIs that name an inner MLflow store and something that wraps it.

A product registers its schemes twice: in MLflow's own entry-point groups, all of which point at
`mlflow_connections_events.plugin`, and in the group `mlflow_connections.composite`, which maps a scheme to
a function that parses such a URI:

    [project.entry-points."mlflow.tracking_store"]
    mirror = "mlflow_connections_events.plugin:tracking_store"

    [project.entry-points."mlflow_connections.composite"]
    mirror = "mlflow_connections_mirror._uri:parse"

MLflow imports this module while it is imported itself: neither MLflow nor anything slow is imported here.
"""

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "GROUP",
    "TRACKING_URI_AT_IMPORT",
    "Composite",
    "inner_of",
    "is_composite",
    "parse",
]

GROUP = "mlflow_connections.composite"
"""The entry-point group that maps a scheme to its parser."""

TRACKING_URI_AT_IMPORT = os.environ.get("MLFLOW_TRACKING_URI")
"""The tracking URI in the environment before `mlflow.set_tracking_uri` overwrote it."""


class Composite(Protocol):
    """A parsed composite URI."""

    @property
    def inner(self) -> str | None:
        """The URI or path of the inner store; None means the tracking URI in force."""

    def wrap_tracking(self, build: Callable[[], Any], enabled: Callable[[], bool]) -> Any:
        """Return the tracking store of the composite URI.

        Args:
            build: Builds the inner store. A product that must respond while the server is down
                calls it later, or never.
            enabled: Returns whether the wrapping is still in force; false once the inner store,
                which MLflow may keep, is used without it again.
        """

    def wrap_registry(self, build: Callable[[], Any], enabled: Callable[[], bool]) -> Any:
        """Return the model registry store of the composite URI; most products return `build()`."""


@functools.cache
def _parsers() -> dict[str, "EntryPoint"]:
    # Imported on use: it costs more than everything else in this module.
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}


def is_composite(uri: str | None) -> bool:
    """Return whether a URI has a registered composite scheme."""
    if not uri or "://" not in uri:
        return False
    return _scheme(uri) in _parsers()


def _scheme(uri: str) -> str:
    return uri.partition("://")[0].lower()


@functools.lru_cache(maxsize=64)
def parse(uri: str) -> Composite:
    """Parse a composite URI with the parser of its scheme.

    Raises:
        KeyError: No installed package has registered the scheme.
        InvalidOptionError: The parser refuses the URI.
    """
    parser: Callable[[str], Composite] = _parsers()[_scheme(uri)].load()
    return parser(uri)


def inner_of(uri: str) -> str | None:
    """Return the innermost URI of a composite one, and any other URI unchanged; None if it names none."""
    inner: str | None = uri
    while inner is not None and is_composite(inner):
        inner = parse(inner).inner
    return inner
