"""A copy of each MLflow run for Databand: the connection `databand` and its composite URIs.

The names of this package are loaded on first use.
"""

from typing import TYPE_CHECKING

from mlflow_connections.lazy import lazy_names

if TYPE_CHECKING:
    from ._connection import DatabandConnection, connection
    from ._dbnd import databand_tracking

__all__ = ["DatabandConnection", "connection", "databand_tracking"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "DatabandConnection": "._connection",
        "connection": "._connection",
        # The only name that needs the extra `dbnd`.
        "databand_tracking": "._dbnd",
    },
)
