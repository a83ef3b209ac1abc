"""Unmodified MLflow inside Snowflake: a tracking store over external functions."""

from ._bridge import SCHEME, Bridge
from ._entry import artifact_repository, flush, register, registry_store, tracking_store

__all__ = [
    "SCHEME",
    "Bridge",
    "artifact_repository",
    "flush",
    "register",
    "registry_store",
    "tracking_store",
]
