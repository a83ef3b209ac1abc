"""Connections that stand in front of an MLflow server: their tracking URI is a composite one.

A product declares its options and says what differs:

    class Mirror(CompositeConnection):
        variable = "MLFLOW_CONNECTIONS_MIRROR"

        def front(self, values):
            primary = self.server_of(values["primary"])
            return Front(MirrorUri(primary.tracking_uri, values["copy"]), primary)

        def inner_of(self, uri):
            return parse(uri).primary if uri.startswith("mirror://") else uri
"""

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from mlflow_connections import Connection, Endpoint, InvalidOptionError, mlflow_state, resolve
from mlflow_connections.last_known import allowed

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CompositeConnection", "Front"]

_RESOLVE_SECONDS = 5.0
"""The longest wait for a service that returns the address of a server, if an earlier one is known."""
_NONE: Mapping[str, str] = {}


class Front(NamedTuple):
    """A resolved composite connection.

    Attributes:
        uri: The composite URI; `str` returns it as text.
        inner: The wrapped server.
        environment: The product's own variables, in addition to those of the server.
    """

    uri: object
    inner: Endpoint
    environment: Mapping[str, str] = _NONE


class CompositeConnection(Connection):
    """A connection that wraps an MLflow server."""

    _front: Front | None = None
    """Of a prepared connection."""

    variable: ClassVar[str]
    """The environment variable that holds the composite URI if the server must keep its own URI.

    It begins with `MLFLOW_CONNECTIONS_`. Child processes inherit it.
    """

    @abstractmethod
    def front(self, values: Mapping[str, Any]) -> Front:
        """Resolve the wrapped server, and return it with the composite URI.

        Args:
            values: The declared options, None where one has no value.

        Raises:
            ConnectionsError: An option names no such server.
        """

    @abstractmethod
    def inner_of(self, uri: str) -> str | None:
        """Return the server that a composite URI of this connection names, and any other URI unchanged.

        Raises:
            InvalidOptionError: It is an invalid composite URI.
        """

    def server_of(self, named: str | None, *, may_be_down: bool = False) -> Endpoint:
        """Resolve the server that an option names: a URI, a path, a connection's name or a keyword.

        By default it is the tracking URI in force, or the wrapped server if this connection is in
        force already.

        Args:
            named: The value of the option.
            may_be_down: Whether the product works without the server. Its last known address is then
                used if a service that returns the address does not respond within five seconds.
        """
        if named is not None and may_be_down:
            from ._addresses import Addresses

            with allowed(Addresses(), _RESOLVE_SECONDS):
                return resolve(named)
        if named is not None:
            return resolve(named)
        return Endpoint(self.inner_of(mlflow_state.tracking_uri() or "") or "")

    def prepared(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> "Self":
        """Return this connection with its servers resolved, so that each is resolved once for all methods."""
        found = copy(self)
        found._front = self._resolved(credentials, options)
        return found

    def _resolved(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> Front:
        return self._front or self.front(self.values(credentials, options))

    def tracking_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Return the composite URI, or the server's own if MLflow must recognize that."""
        from ._transparent import activate, keeps_its_uri

        uri, inner, _ = self._resolved(credentials, options)
        if keeps_its_uri(inner.tracking_uri):
            activate()
            return inner.tracking_uri
        return str(uri)

    def environment(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, str]:
        """Return the server's variables and the product's own, with the composite URI if the server keeps its own."""
        from ._transparent import keeps_its_uri

        uri, inner, own = self._resolved(credentials, options)
        environment = {**inner.environment, **own}
        if keeps_its_uri(inner.tracking_uri):
            environment[self.variable] = str(uri)
        return environment

    def inner_endpoint(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Endpoint:
        """Return the wrapped server."""
        inner = self._resolved(credentials, options).inner
        in_force = mlflow_state.tracking_uri() or ""
        # A URI in force that cannot be parsed names no server, and is about to be replaced.
        with suppress(InvalidOptionError):
            if inner.tracking_uri == (self.inner_of(in_force) or ""):
                # This connection may already wrap the server.
                return inner._replace(tracking_uri=in_force)
        return inner
