"""The stores behind a durable URI."""

from collections.abc import Callable
from typing import Any, NamedTuple

from mlflow_connections_events import keeps_its_uri

from . import _uri
from ._delivering import is_delivering


class DurableStores(NamedTuple):
    """Builds the stores of one server.

    Attributes:
        uri: The parsed durable URI.
    """

    uri: _uri.DurableUri

    @property
    def inner(self) -> str:
        """The server's tracking URI, or `offline`."""
        return self.uri.server

    def wrap_tracking(self, build: Callable[[], Any], enabled: Callable[[], bool]) -> Any:
        """Return the tracking store that responds at once; a delivering thread gets the server's own."""
        if is_delivering():
            return build()
        from ._server import server_of
        from ._tracking import durable_tracking

        server = server_of(self.uri)
        inner = None if self.uri.is_offline else build()
        # Only a store that keeps its URI may be used again without this wrapping.
        transparent = keeps_its_uri(self.uri.server)
        return durable_tracking(server, inner, enabled if transparent else None)

    def wrap_registry(self, build: Callable[[], Any], enabled: Callable[[], bool]) -> Any:
        """Return the model registry that registers later if the server does not respond."""
        if is_delivering():
            return build()
        from ._registry import durable_registry
        from ._server import server_of

        inner = None if self.uri.is_offline else build()
        transparent = keeps_its_uri(self.uri.server)
        return durable_registry(server_of(self.uri), inner, enabled if transparent else None)


def parse(uri: str) -> DurableStores:
    """Parse a durable URI.

    Raises:
        InvalidOptionError: It names no server, or an unknown parameter.
    """
    return DurableStores(_uri.parse(uri))
