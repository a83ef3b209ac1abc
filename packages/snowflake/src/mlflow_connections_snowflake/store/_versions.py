"""The one place where MLflow's versions differ for this store."""

import inspect
from typing import Any

from mlflow.store.artifact.artifact_repo import ArtifactRepository


def repository_arguments(**given: Any) -> dict[str, Any]:
    """Give those arguments that this MLflow's base of artifact repositories takes.

    2.16 takes the artifact's URI alone, 3 the tracking and the registry URI besides.
    """
    known = inspect.signature(ArtifactRepository.__init__).parameters
    return {name: value for name, value in given.items() if name in known}
