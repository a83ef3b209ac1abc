"""The targets of entry points: MLflow's groups name these for every composite scheme.

MLflow imports this module during its own import: the module must import neither MLflow nor anything
slow. `_transparent` imports `composite` at once, which reads the tracking URI before any code
changes it.
"""

from typing import Any

from ._transparent import wrap_builders


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """Build the tracking store of a composite URI."""
    from ._inner import tracking_store as build

    return build(store_uri, artifact_uri)


def model_registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:
    """Build the model registry of a composite URI."""
    from ._inner import model_registry_store as build

    return build(store_uri, tracking_uri)


def scorer_store(tracking_uri: str) -> Any:
    """Build the inner store's scorers."""
    from ._inner import scorer_store as build

    return build(tracking_uri)


def labeling_store(tracking_uri: str) -> Any:
    """Build the inner store's labeling sessions, or raise MLflow's own error if it has none."""
    from ._inner import labeling_store as build

    return build(tracking_uri)


def workspace_provider(workspace_uri: str) -> Any:
    """Build the inner store's workspaces, or raise MLflow's own error if it has none."""
    from ._inner import workspace_provider as build

    return build(workspace_uri)


def mlflow_artifacts(*args: Any, **kwargs: Any) -> Any:
    """Build MLflow's repository of proxied artifacts, which requires an http tracking URI."""
    from ._inner import mlflow_artifacts as build

    return build(*args, **kwargs)


class Activation:
    """Wraps the builders of stores when MLflow is imported; as a run context it adds nothing.

    MLflow loads the group `mlflow.run_context_provider` after it has registered all stores,
    including those of other plugins. The order among plugins is undefined.
    """

    def __init__(self) -> None:
        wrap_builders()

    def in_context(self) -> bool:
        """Return false: there are no tags to add."""
        return False

    def tags(self) -> dict[str, str]:
        """Return no tags."""
        return {}
