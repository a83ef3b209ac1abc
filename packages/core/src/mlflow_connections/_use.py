"""Applying an endpoint to this process, and putting back exactly what was there.

MLflow keeps each URI twice: in a module variable and in an environment variable, for children. Its
own context manager forgets a variable that was set before, so both are saved and restored here.
MLflow is never imported for this: until somebody imports it, the variables say all.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

from ._resolve import Endpoint, resolve

__all__ = ["Applied", "SavedState", "export_environment", "set_uris", "use"]

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
REGISTRY_VARIABLE = "MLFLOW_REGISTRY_URI"
_TRACKING_MODULE = "mlflow.tracking._tracking_service.utils"
_REGISTRY_MODULE = "mlflow.tracking._model_registry.utils"


class SavedState(NamedTuple):
    """MLflow's URIs and the environment of this process at one moment, to put back later.

    Attributes:
        tracking: The tracking URI in MLflow's module, None when it is unset or not imported.
        registry: The same of the registry.
        variables: The whole environment.
    """

    tracking: Any
    registry: Any
    variables: Mapping[str, str]

    @classmethod
    def take(cls) -> "SavedState":
        """Remember what is in force now."""
        return cls(
            _get(_TRACKING_MODULE, "_tracking_uri"),
            _get(_REGISTRY_MODULE, "_registry_uri"),
            dict(os.environ),
        )

    def restore(self, names: Iterable[str], after: "SavedState | None" = None) -> None:
        """Put back both URIs and the named variables, also to unset.

        Args:
            names: The environment variables to put back, beside those of the two URIs.
            after: Spare what has changed since this snapshot: somebody else has set it then.
        """
        now = SavedState.take()
        if after is None or now.tracking == after.tracking:
            _set_tracking(self.tracking)
        if after is None or now.registry == after.registry:
            _set_registry(self.registry)
        # MLflow's own setters change the variables too, so those that are spared are set as well.
        for name in {TRACKING_VARIABLE, REGISTRY_VARIABLE, *names}:
            spared = after is not None and now.variables.get(name) != after.variables.get(name)
            value = (now if spared else self).variables.get(name)
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def __repr__(self) -> str:
        """Hide everything: an environment is full of secrets."""
        return f"SavedState({len(self.variables)} variables)"


class Applied:
    """An endpoint in force. A context manager whose end, like `restore`, puts back what was there."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._before = SavedState.take()
        self._in_force = True
        export_environment(endpoint.environment)
        set_uris(endpoint.tracking_uri, endpoint.registry_uri)

    def restore(self) -> None:
        """Put back both URIs and every variable, also to unset. A second call does nothing."""
        if self._in_force:
            self._in_force = False
            self._before.restore(self.endpoint.environment)

    def __enter__(self) -> Endpoint:
        return self.endpoint

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.restore()

    def __repr__(self) -> str:
        return f"Applied({self.endpoint!r})"


def use(
    tracking: str,
    credentials: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    registry: str | None = None,
) -> Applied:
    """Resolve, and let MLflow in this process (and its children) work with the result.

    As a plain call it stays in force; in a `with` statement what was there before is put back at
    the end. It is process-wide, as MLflow's tracking URI is: not for two threads at once.

    Args:
        tracking: A keyword of an installed connection, or a URI or path.
        credentials: Handed to the connection.
        options: Handed to the connection.
        registry: A keyword, URI or path for the model registry. None leaves it as it is.

    Raises:
        ConnectionsError: One of the errors of `resolve`. Nothing was changed then.
    """
    return Applied(resolve(tracking, credentials, options, registry=registry))


def set_uris(tracking: str | None, registry: str | None) -> None:
    """Set MLflow's URIs in this process and for its children; None leaves one as it is."""
    if tracking is not None:
        _set_tracking(tracking)
        os.environ[TRACKING_VARIABLE] = tracking
    if registry is not None:
        _set_registry(registry)
        os.environ[REGISTRY_VARIABLE] = registry


def export_environment(environment: Mapping[str, str]) -> None:
    """Set environment variables, with a warning for each whose other value is replaced."""
    for name, value in environment.items():
        if os.environ.get(name, value) != value:
            # Imported here: it would be a fifth of what importing this package costs.
            import logging

            logging.getLogger(__name__).warning(
                "The environment variable %s had another value, which the credentials of this "
                "connection replace.",
                name,
            )
        os.environ[name] = value


def _get(module: str, name: str) -> Any:
    return getattr(_imported(module), name, None)


def _imported(module: str) -> ModuleType | None:
    return sys.modules.get(module)


def _set_tracking(uri: str | None) -> None:
    if utils := _imported(_TRACKING_MODULE):
        # MLflow's setter also resets the tracer, which keeps the URI that it was made with.
        utils.set_tracking_uri(uri)


def _set_registry(uri: str | None) -> None:
    if utils := _imported(_REGISTRY_MODULE):
        utils.set_registry_uri(uri)
