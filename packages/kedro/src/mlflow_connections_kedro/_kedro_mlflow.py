"""The view of mlflow.yml that kedro-mlflow reads: the same file, with plain URIs in place of keywords.

The connection is resolved when kedro-mlflow reads the file. By then it has registered its
resolvers, and hooks marked `tryfirst` have put their secrets into the credentials.
"""

from collections.abc import Callable, Hashable, Mapping
from copy import deepcopy
from functools import lru_cache
from typing import Any

from kedro.config import MissingConfigException

from ._mlflow import RunNames
from ._session import Resolved

_ATTRIBUTE = "_mlflow_connections_view"
_OURS = ("tracking_uri", "registry_uri", "connection")

Read = Callable[[Callable[[], Any]], dict[str, Any]]
"""Returns the view, given a function that reads the file."""


def hook(context: Any) -> Any:
    """Return the registered hook of kedro-mlflow, or a project's subclass of it, or None."""
    return next(filter(is_hook, context._hook_manager.get_plugins()), None)


def is_hook(plugin: Any) -> bool:
    """Return whether a plugin is kedro-mlflow's hook, or a project's subclass of it."""
    return any(
        cls.__name__ == "MlflowHook" and cls.__module__.startswith("kedro_mlflow.")
        for cls in type(plugin).__mro__
    )


def install(loader: Any, read: Read) -> None:
    """Make a config loader return the view for `["mlflow"]`, computed once.

    The loader becomes an instance of a subclass of its class, so that every holder of the loader
    sees the view.
    """
    setattr(loader, _ATTRIBUTE, _Once(read))
    if not hasattr(type(loader), "mlflow_connections_viewed"):
        cls: Any = type(loader)
        loader.__class__ = _viewed(cls)


def forget(loader: Any) -> None:
    """Make a config loader compute its view again on the next read."""
    getattr(loader, _ATTRIBUTE).forget()


class _Once:
    def __init__(self, read: Read) -> None:
        self._read = read
        self._found: dict[str, Any] | None = None
        self._missing: MissingConfigException | None = None

    def __call__(self, original: Callable[[], Any]) -> dict[str, Any]:
        if self._missing is not None:
            raise self._missing
        if self._found is None:
            try:
                self._found = self._read(original)
            except MissingConfigException as error:
                self._missing = error
                raise
        return deepcopy(self._found)

    def forget(self) -> None:
        self._found = self._missing = None


@lru_cache
def _viewed(cls: Hashable) -> Any:
    base: Any = cls

    def getitem(self: Any, key: str) -> Any:
        if key != "mlflow":
            return base.__getitem__(self, key)
        return getattr(self, _ATTRIBUTE)(lambda: base.__getitem__(self, key))

    def setitem(self: Any, key: str, value: Any) -> None:
        base.__setitem__(self, key, value)
        if key == "mlflow":
            getattr(self, _ATTRIBUTE).forget()

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


def plain(
    config: Mapping[str, Any], resolved: Resolved | None, resumed: RunNames | None = None
) -> dict[str, Any]:
    """Return a configuration that kedro-mlflow's model accepts; the model forbids any other key.

    Args:
        config: The content of mlflow.yml.
        resolved: The URIs. None while a run is active, whose server MLflow already knows.
        resumed: The names of the run that an orchestrator started, which MLflow will resume.
            kedro-mlflow then works in that run's experiment, and keeps the run's name.
    """
    result = deepcopy(dict(config))
    server = {k: v for k, v in (result.get("server") or {}).items() if k not in _OURS}
    if resolved is None:
        for key in ("mlflow_tracking_uri", "mlflow_registry_uri", "credentials"):
            server.pop(key, None)
    else:
        uris = (
            ("mlflow_tracking_uri", resolved.tracking, resolved.server.tracking),
            ("mlflow_registry_uri", resolved.registry, resolved.server.registry),
        )
        # kedro-mlflow and MLflow read a plain variable themselves.
        server |= {
            key: uri
            for key, uri, value in uris
            if value and (value.is_connection or not value.from_environment)
        }
        if resolved.server.connections:
            # kedro-mlflow would export every key of the entry; the necessary ones are exported.
            server.pop("credentials", None)
    if server or "server" in result:
        result["server"] = server
    if resumed is not None:
        _resume(result, resumed)
    return result


def _resume(config: dict[str, Any], resumed: RunNames) -> None:
    tracking = config["tracking"] = dict(config.get("tracking") or {})
    experiment = tracking["experiment"] = dict(tracking.get("experiment") or {})
    experiment["name"] = resumed.experiment
    run = tracking["run"] = dict(tracking.get("run") or {})
    if resumed.run and not run.get("name"):
        run["name"] = resumed.run
