"""A copy of each MLflow run for Databand: the connection `databand` and the store behind its URIs."""

from typing import TYPE_CHECKING, Any

from ._connection import Databand, connection

if TYPE_CHECKING:
    from ._dbnd import databand_tracking

__all__ = ["Databand", "connection", "databand_tracking"]


def __getattr__(name: str) -> Any:
    # It needs the extra `dbnd`, which nothing else here imports.
    if name == "databand_tracking":
        from ._dbnd import databand_tracking

        return databand_tracking
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
