"""Use a server's last known address while the service that returns it does not respond.

Some servers are found by asking another service: Azure Resource Manager returns the address of an AzureML
workspace. A product that must start while everything is down resolves its server in a block of `allowed`,
and a connection that asks such a service calls `fetched`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, Protocol

from ._errors import UnreachableError
from .secrets import get_logger, mask_uri

__all__ = ["AddressStore", "allowed", "fetched"]

logger = get_logger(__name__)


class AddressStore(Protocol):
    """Stores the address of each server that was resolved. No method raises an error."""

    def read(self, key: str) -> str | None:
        """Return the address that was written last, or None if there is none."""

    def write(self, key: str, uri: str) -> None:
        """Store an address, if possible."""


class _Allowed(NamedTuple):
    store: AddressStore
    seconds: float


_allowed: ContextVar[_Allowed | None] = ContextVar("mlflow_connections_last_known", default=None)


@contextmanager
def allowed(store: AddressStore, seconds: float) -> Iterator[None]:
    """Allow last known addresses to connections that are resolved in this block.

    Args:
        store: Stores the addresses.
        seconds: The longest wait for a service whose last response is known.
    """
    token = _allowed.set(_Allowed(store, seconds))
    try:
        yield
    finally:
        _allowed.reset(token)


def fetched(
    key: str,
    server: str,
    fetch: Callable[[float | None], str],
    belongs: Callable[[str], bool] | None = None,
    unknown: str = "",
) -> str:
    """Fetch a server's address; in a block of `allowed`, return the last known one if nothing responds.

    The service is always asked first, since the address may have changed. A credential that it refuses is
    an error, whatever is known.

    Args:
        key: Identifies the server on this machine. Not secret.
        server: The server as messages name it, such as `the workspace 'ml'`.
        fetch: Fetches the address. It gets the longest wait for responses in seconds, or None for its own
            limit, and names the service that did not respond in time.
        belongs: Returns whether a stored address is one of this server; others are not used.
        unknown: A sentence for the error of a product that could start if an address were known.

    Raises:
        UnreachableError: The service does not respond, and no address is known or allowed.
        ConnectionsError: Another error of `fetch`.
    """
    now = _allowed.get()
    if now is None:
        return fetch(None)
    known = now.store.read(key)
    if known is None or not (belongs is None or belongs(known)):
        try:
            uri = fetch(None)
        except UnreachableError as error:
            raise UnreachableError(f"{error} {unknown}".strip()) from None
    else:
        try:
            uri = fetch(now.seconds)
        except UnreachableError as error:
            fault, shown = str(error).strip(), mask_uri(known)
            logger.warning("%s The last known address of %s is used: %s.", fault, server, shown)
            return known
    now.store.write(key, uri)
    return uri
