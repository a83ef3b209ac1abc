"""The keyword `durable`: an MLflow server whose clients never wait for it."""

import os
from collections.abc import Mapping
from typing import Any

from mlflow_connections import Endpoint, InvalidOptionError, Option, mlflow_state
from mlflow_connections.secrets import mask_uri
from mlflow_connections_events.connection import CompositeConnection, Front

from ._uri import OFFLINE, SCHEME, DurableUri, parse

VARIABLE = "MLFLOW_CONNECTIONS_DURABLE"
"""Holds the durable URI while the server behind it must keep its own URI; children inherit it."""

SERVER_VARIABLE = "MLFLOW_CONNECTIONS_DURABLE_SERVER"
"""Names the server if no option does."""

_OWN_STORES = ("sqlite", "postgresql", "mysql", "mssql", "file")


class Durable(CompositeConnection):
    """Keeps logged data on this machine at once, and delivers it to an MLflow server later.

    Calls return in microseconds, also while the server is down. No logged data is lost.
    """

    variable = VARIABLE
    declared = (
        Option(
            "server",
            "The MLflow server: a URI, a connection's name or a keyword; `offline` for none.",
            env=SERVER_VARIABLE,
            required=True,
        ),
    )

    def front(self, values: Mapping[str, Any]) -> Front:
        """Return the server and, in a variable, its source, for a delivery on another day."""
        named = str(values["server"])
        server = self._server(named)
        return Front(DurableUri(server.tracking_uri), server, {SERVER_VARIABLE: named})

    def inner_of(self, uri: str) -> str | None:
        """Return the server of a durable URI, and any other URI unchanged."""
        return parse(uri).server if uri.startswith(SCHEME) else uri

    def implied_registry_uri(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> str | None:
        """Return the durable URI, unless a registry is already chosen or the server keeps its own URI."""
        uri = self.tracking_uri(credentials, options)
        return uri if uri.startswith(SCHEME) and mlflow_state.registry_uri() is None else None

    def _server(self, named: str) -> Endpoint:
        from mlflow_connections_events import is_composite

        if named == OFFLINE:
            return Endpoint(OFFLINE)
        if named == SCHEME or is_composite(named) or is_composite(f"{named}://"):
            raise InvalidOptionError(
                f"'server' must name an MLflow server, not {mask_uri(named)!r}."
            )
        server = self.server_of(named, may_be_down=True)
        if is_composite(server.tracking_uri):
            raise InvalidOptionError(
                f"'server' must name an MLflow server, and '{named}' stands in front of one itself."
            )
        _, marks, place = server.tracking_uri.partition("://")
        if marks and not place.strip("/"):
            raise InvalidOptionError(
                f"'server' is {mask_uri(server.tracking_uri)!r}, which names no host: write https://<host>."
            )
        if is_on_this_machine(server.tracking_uri):
            raise InvalidOptionError(
                f"'server' is {mask_uri(server.tracking_uri)!r}, which is not a server that could be "
                f"down: use it without '{SCHEME}'."
            )
        return server


def is_on_this_machine(uri: str) -> bool:
    """Return whether a tracking URI is a file store, a path or a database, without a server."""
    if uri in {"databricks", "databricks-uc"}:
        return False
    scheme = uri.partition(":")[0].partition("+")[0].lower()
    return ":" not in uri or scheme in _OWN_STORES or (os.name == "nt" and len(scheme) == 1)


connection = Durable()
"""The instance that is registered under the keyword."""
