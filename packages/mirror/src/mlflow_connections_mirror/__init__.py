"""A copy of MLflow runs for a second MLflow server: the keyword `mirror` and the command that moves runs.

The names of this package are loaded on first use.
"""

from typing import TYPE_CHECKING

from mlflow_connections.lazy import lazy_names

if TYPE_CHECKING:
    from ._connection import Mirror, connection

__all__ = ["Mirror", "connection"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {"Mirror": "._connection", "connection": "._connection"},
)
