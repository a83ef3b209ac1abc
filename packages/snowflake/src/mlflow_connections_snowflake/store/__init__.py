"""MLflow's tracking store, model registry and artifact repository inside Snowflake."""

from ._plugin import artifact_repository, flush, register, registry_store, tracking_store
from ._uri import SCHEME, Bridge

__all__ = [
    "SCHEME",
    "Bridge",
    "artifact_repository",
    "flush",
    "register",
    "registry_store",
    "tracking_store",
]
