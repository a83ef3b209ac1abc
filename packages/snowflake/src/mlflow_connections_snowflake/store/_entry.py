"""What MLflow finds by entry points. `import mlflow` loads this: nothing of it may be imported here."""

from typing import Any


def tracking_store(store_uri: str, artifact_uri: str | None = None, **_: object) -> Any:  # noqa: ARG001 - MLflow gives it by name
    """Make the tracking store of a `snowflake:` URI."""
    from ._tracking_store import SnowflakeTrackingStore

    # Abstract to a type checker: the methods that refuse are made when the class is.
    store: Any = SnowflakeTrackingStore
    return store(store_uri)


def registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:
    """Make the model registry of a `snowflake:` URI."""
    from ._registry_store import SnowflakeRegistryStore

    store: Any = SnowflakeRegistryStore
    return store(store_uri, tracking_uri)


def artifact_repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """Make the artifact repository of a `snowflake:` URI."""
    from ._artifacts import StageArtifactRepository

    return StageArtifactRepository(artifact_uri, tracking_uri, registry_uri)


def register() -> None:
    """Tell MLflow of the scheme `snowflake` where no entry point can: code from a bare zip, say.

    Entry points are found in a zip on `sys.path` only if the zip was there before `import mlflow`,
    with this distribution's `*.dist-info` at its root.
    """
    from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry
    from mlflow.tracking._model_registry.utils import _get_store_registry
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    from ._bridge import SCHEME

    _tracking_store_registry.register(SCHEME, tracking_store)
    _artifact_repository_registry.register(SCHEME, artifact_repository)
    _get_store_registry().register(SCHEME, registry_store)


def flush() -> None:
    """Send everything that waits in any store of this process.

    A procedure that ends its runs needs no call: the end of a run sends what the run logged.

    Raises:
        MlflowException: MLflow refused some of it; all else is stored.
        ConnectionsError: MLflow could not be reached.
    """
    from ._tracking_store import stores

    for store in list(stores):
        store.flush()
