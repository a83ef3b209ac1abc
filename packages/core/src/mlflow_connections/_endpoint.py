"""The result of a connection: URIs, variables and identities."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, cast

from .secrets import MASK, mask_uri

if TYPE_CHECKING:
    from ._binder import Binder
    from .authentication import Authenticator

__all__ = ["Endpoint"]

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Endpoint(NamedTuple):
    """The URIs and variables with which MLflow reaches a server.

    Attributes:
        tracking_uri: For `mlflow.set_tracking_uri`.
        registry_uri: For `mlflow.set_registry_uri`. None leaves it to MLflow, which derives it from
            the tracking URI: the same, or `databricks-uc` for `databricks`.
        environment: Variables that the URIs need. Most of them are secrets.
        binders: Identities to activate with the endpoint, in addition to its variables. Never
            shown.
        inner: The wrapped server if the endpoint wraps one; its tracking URI is empty for MLflow's
            default. None if the endpoint has its own server.
    """

    tracking_uri: str
    registry_uri: str | None = None
    environment: Mapping[str, str] = _NOTHING
    binders: "tuple[Binder, ...]" = ()
    inner: "Endpoint | None" = None

    @property
    def authenticator(self) -> "Authenticator | None":
        """The binder that authenticates requests to the server, or None if there is none."""
        return next(iter(self.authenticators), None)

    @property
    def authenticators(self) -> "list[Authenticator]":
        """The binders that authenticate requests, to the server and to a registry from another connection."""
        found = [each for each in self.binders if hasattr(each, "authenticate")]
        return cast("list[Authenticator]", found)

    def __repr__(self) -> str:
        """Hide every secret."""
        registry = None if self.registry_uri is None else mask_uri(self.registry_uri)
        environment = dict.fromkeys(sorted(self.environment), MASK)
        return (
            f"Endpoint(tracking_uri={mask_uri(self.tracking_uri)!r}, "
            f"registry_uri={registry!r}, environment={environment!r})"
        )
