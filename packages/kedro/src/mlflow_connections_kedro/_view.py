"""What kedro-mlflow reads as mlflow.yml: the same file, as if it had held plain URIs.

Resolving is put off until kedro-mlflow reads it. By then it has registered its resolvers, and the
users' own hooks have put their secrets into the credentials.
"""

from collections.abc import Callable, Hashable, Mapping
from copy import deepcopy
from functools import lru_cache
from typing import Any

from ._session import Connected

ATTRIBUTE = "_mlflow_connections_view"
_OURS = ("tracking_uri", "registry_uri", "connection")

Read = Callable[[Callable[[], Any]], dict[str, Any]]
"""Turns the file's own content, which it asks for, into what is to be read."""


def install(loader: Any, read: Read) -> None:
    """Make a config loader give what `read` makes of mlflow.yml, found out once.

    The loader itself becomes an instance of a subclass of its class: whoever holds it sees the
    same.
    """
    setattr(loader, ATTRIBUTE, _Once(read))
    if not hasattr(type(loader), "mlflow_connections_viewed"):
        cls: Any = type(loader)
        loader.__class__ = _viewed(cls)


class _Once:
    def __init__(self, read: Read) -> None:
        self._read = read
        self._found: dict[str, Any] | None = None

    def __call__(self, original: Callable[[], Any]) -> dict[str, Any]:
        if self._found is None:
            self._found = self._read(original)
        return deepcopy(self._found)

    def forget(self) -> None:
        self._found = None


@lru_cache
def _viewed(cls: Hashable) -> Any:
    base: Any = cls

    def getitem(self: Any, key: str) -> Any:
        if key != "mlflow":
            return base.__getitem__(self, key)
        return getattr(self, ATTRIBUTE)(lambda: base.__getitem__(self, key))

    def setitem(self: Any, key: str, value: Any) -> None:
        base.__setitem__(self, key, value)
        if key == "mlflow":
            getattr(self, ATTRIBUTE).forget()

    return type(
        base.__name__,
        (base,),
        {
            "__doc__": base.__doc__,
            "__module__": base.__module__,
            "__qualname__": base.__qualname__,
            "__getitem__": getitem,
            "__setitem__": setitem,
            "mlflow_connections_viewed": True,
        },
    )


def plain(config: Mapping[str, Any], connected: Connected | None) -> dict[str, Any]:
    """Write a configuration as kedro-mlflow's model knows it, which forbids any other key.

    Args:
        config: What the files hold.
        connected: The URIs. None while a run is active, whose server is MLflow's already.
    """
    result = deepcopy(dict(config))
    server = {k: v for k, v in (result.get("server") or {}).items() if k not in _OURS}
    if connected is None:
        for key in ("mlflow_tracking_uri", "mlflow_registry_uri", "credentials"):
            server.pop(key, None)
    else:
        uris = (
            ("mlflow_tracking_uri", connected.tracking, connected.server.tracking),
            ("mlflow_registry_uri", connected.registry, connected.server.registry),
        )
        # kedro-mlflow and MLflow read a plain variable themselves.
        server |= {
            key: uri
            for key, uri, value in uris
            if value and (value.is_connection or not value.from_environment)
        }
        if connected.server.connections:
            # kedro-mlflow would export every key of the entry; what is needed is exported already.
            server.pop("credentials", None)
    if server or "server" in result:
        result["server"] = server
    return result
