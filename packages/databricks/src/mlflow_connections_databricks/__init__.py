"""The MLflow connection `databricks`."""

from ._connection import DatabricksConnection

__all__ = ["DatabricksConnection", "connection"]

connection = DatabricksConnection()
"""What the entry point names."""
