"""Every private name of MLflow that this package uses. No other module uses one.

Each was read in MLflow 2.22, 3.5 and 3.17; the functions hide the differences between versions.
"""

import functools
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future

ARTIFACT_ASYNC = "_log_artifact_async"
"""The method of an artifact repository through which `mlflow.log_image` uploads."""

_TRACKING_UTILS = "mlflow.tracking._tracking_service.utils"
_MODELS_UTILS = "mlflow.tracking._model_registry.utils"
_UNITY_CATALOG = "mlflow.store._unity_catalog."


def builders(kind: str) -> MutableMapping[str, Callable[..., Any]]:
    """Return MLflow's own mapping from scheme to builder, which may be changed in place.

    Args:
        kind: `tracking`, `model_registry` or `artifact`. For `tracking` the mapping is empty, and changes are
            lost, while MLflow's tracking module is not imported.
    """
    if kind == "model_registry":
        models: MutableMapping[str, Callable[..., Any]] = _registry(kind)._registry
        return models
    if kind == "tracking":
        registry = getattr(sys.modules.get(_TRACKING_UTILS), "_tracking_store_registry", None)
        return getattr(registry, "_registry", {})
    from mlflow.store.artifact import artifact_repository_registry

    artifact: Any = artifact_repository_registry._artifact_repository_registry
    found: MutableMapping[str, Callable[..., Any]] = artifact._registry
    return found


def build_store(kind: str, uri: str, **arguments: Any) -> Any:
    """Build a store through MLflow's registry, and never through its cache.

    MLflow's cached `_get_store` takes a non-reentrant lock that is held while a plugin's builder
    runs, so calling it there would deadlock.

    Args:
        kind: `tracking`, `model_registry`, `scorer`, `labeling` or `workspace`.
        uri: The URI that selects the builder.
        arguments: The builder's arguments; those that an older plugin's builder lacks are omitted.
    """
    import inspect

    build = _registry(kind).get_store_builder(uri)
    known = inspect.signature(build).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        arguments = {name: value for name, value in arguments.items() if name in known}
    return build(**arguments)


def _registry(kind: str) -> Any:
    if kind == "tracking":
        from mlflow.tracking._tracking_service import utils as tracking

        return tracking._tracking_store_registry
    if kind == "model_registry":
        from mlflow.tracking._model_registry import utils as models

        get_registry: Any = models._get_store_registry
        return get_registry()
    if kind == "scorer":
        from mlflow.genai.scorers import registry as scorers

        return scorers._scorer_store_registry
    if kind == "labeling":
        from mlflow.genai.labeling import stores as labeling

        return labeling._labeling_store_registry
    from mlflow.tracking._workspace import registry as workspaces

    get_registry = workspaces._get_workspace_store_registry
    return get_registry()


def scorers_use_tracking_store(uri: str) -> bool:
    """Return whether the scorers of a store are read and written through its tracking store."""
    from mlflow.genai.scorers import registry

    through_tracking: bool = (
        _registry("scorer").get_store_builder(uri) is registry.MlflowTrackingStore
    )
    return through_tracking


def forget_cached_stores() -> None:
    """Make MLflow build its stores again: it keeps a store as long as its URI is the same."""
    for module, name in (
        (_TRACKING_UTILS, "_tracking_store_registry"),
        (_MODELS_UTILS, "_model_registry_store_registry"),
    ):
        registry = getattr(sys.modules.get(module), name, None)
        if registry is not None:
            type(registry)._get_store_with_resolved_uri.cache_clear()


def registry_uri_for(tracking_uri: str) -> str:
    """Return the registry URI that MLflow derives from a tracking URI."""
    from mlflow.tracking._model_registry import utils

    # Since MLflow 3 the registry of Databricks is Unity Catalog's; MLflow 2.22 has no such function.
    derive = getattr(utils, "_get_default_registry_uri_for_tracking_uri", lambda uri: uri)
    registry_uri: str = derive(tracking_uri)
    return registry_uri


def registry_uris_of(tracking_uri: str) -> set[str]:
    """Return the URIs of the registries that the server of a tracking URI has.

    A workspace of Databricks has a registry of its own and that of Unity Catalog.
    """
    found = {tracking_uri, registry_uri_for(tracking_uri)}
    if tracking_uri.partition(":")[0] == "databricks":
        found.add(tracking_uri.replace("databricks", "databricks-uc", 1))
    return found


def is_unity_catalog(registry: Any) -> bool:
    """Return whether a model registry store is that of Databricks' Unity Catalog."""
    return any(each.__module__.startswith(_UNITY_CATALOG) for each in type(registry).__mro__)


@functools.cache
def newest_schema() -> str:
    """Return the revision of a database that has all tables of this version of MLflow."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    found: str = _get_latest_schema_revision()
    return found


def default_tracking_uri() -> str:
    """Return the tracking URI that MLflow uses if none is set."""
    from mlflow.tracking._tracking_service import utils

    # MLflow 2.22 has no such function, and its only default is the file store.
    default: str = getattr(utils, "_get_default_tracking_uri", lambda: "mlruns")()
    return default


def write_futures(operations: Any) -> list["Future[Any]"]:
    """Return the futures behind the result of a store's asynchronous call."""
    return list(getattr(operations, "_operation_futures", None) or ())


def accepted_arguments(function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a function accepts in this version of MLflow."""
    import inspect

    known = inspect.signature(function).parameters
    return {name: value for name, value in arguments.items() if name in known}


def artifact_repository(uri: str, tracking_uri: str) -> Any:
    """Build the artifact repository of a URI; in MLflow 2.22 proxied ones use the process's tracking URI."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    arguments = {"tracking_uri": tracking_uri}
    build = get_artifact_repository
    return build(uri, **accepted_arguments(build, arguments))


def download_file(repository: Any, path: str, folder: Path) -> Path:
    """Download one file of an artifact repository into a folder, and return where it is.

    `download_artifacts` of a server's files first lists them, to learn whether the path is a folder.
    """
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    if not isinstance(repository, HttpArtifactRepository):
        # Repositories add their own folder here.
        return Path(repository.download_artifacts(path, str(folder)))
    local = folder / Path(path).name
    repository._download_file(path, str(local))
    return local
