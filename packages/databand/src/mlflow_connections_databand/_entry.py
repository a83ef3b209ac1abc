"""What MLflow's entry points name. MLflow loads this when it is imported: no MLflow at the top.

Each builder takes the composite URI apart and asks MLflow's own registry for the inner store. Never
through MLflow's cached `_get_store`: a builder runs under a lock that is not reentrant.
"""

import os
from typing import Any

VARIABLE_AT_IMPORT = os.environ.get("MLFLOW_TRACKING_URI")
"""The tracking URI that the user's environment named, before `set_tracking_uri` overwrote it."""


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """Build the tracking store behind a composite URI."""
    from ._store import tracking_store as build

    return build(store_uri, artifact_uri)


def model_registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:
    """Build the model registry of the inner store; Databand has none."""
    from ._store import model_registry_store as build

    return build(store_uri, tracking_uri)


def scorer_store(tracking_uri: str) -> Any:
    """Build the store of scorers, which works through the tracking store."""
    from ._store import scorer_store as build

    return build(tracking_uri)


def labeling_store(tracking_uri: str) -> Any:
    """Build the inner store's labelling sessions, or raise MLflow's own error where it has none."""
    from ._store import labeling_store as build

    return build(tracking_uri)


def workspace_provider(workspace_uri: str) -> Any:
    """Build the inner store's workspaces, or raise MLflow's own error where it has none."""
    from ._store import workspace_provider as build

    return build(workspace_uri)


def mlflow_artifacts(*args: Any, **kwargs: Any) -> Any:
    """Build MLflow's proxied artifact repository, which insists on an http tracking URI."""
    from ._artifacts import mlflow_artifacts as build

    return build(*args, **kwargs)
