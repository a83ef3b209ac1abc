"""The functions that MLflow's entry points name.

`import mlflow` loads this module, so it must not import MLflow at its top.
"""

from typing import Any


def tracking_store(store_uri: str, artifact_uri: str | None = None, **_: object) -> Any:  # noqa: ARG001 - MLflow passes it by name
    """Create the tracking store of a `snowflake:` URI."""
    from ._tracking_store import SnowflakeTrackingStore

    # Abstract to a type checker: the refusing methods are added after the class is created.
    store: Any = SnowflakeTrackingStore
    return store(store_uri)


def registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:
    """Create the model registry of a `snowflake:` URI."""
    from ._registry_store import SnowflakeRegistryStore

    store: Any = SnowflakeRegistryStore
    return store(store_uri, tracking_uri)


def artifact_repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """Create the artifact repository of a `snowflake:` URI."""
    from ._artifacts import StageArtifactRepository

    return StageArtifactRepository(artifact_uri, tracking_uri, registry_uri)


def register() -> None:
    """Register the scheme `snowflake` with MLflow where no entry point can, as from a bare zip.

    MLflow finds entry points in a zip on `sys.path` only if the zip was there before `import
    mlflow`, with this distribution's `*.dist-info` at its root.
    """
    from ._mlflow import register_scheme
    from ._uri import SCHEME

    register_scheme(SCHEME, tracking_store, artifact_repository, registry_store)


def flush() -> None:
    """Send all buffered values of every store of this process.

    A procedure that ends its runs need not call this: ending a run sends its values.

    Raises:
        MlflowException: MLflow refused some of them. All others are stored.
        ConnectionsError: MLflow could not be reached.
    """
    from ._tracking_store import stores

    for store in list(stores):
        store.flush()
