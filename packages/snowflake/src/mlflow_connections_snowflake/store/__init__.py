"""Unmodified MLflow inside Snowflake: a tracking store over external functions."""

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
