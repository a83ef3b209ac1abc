"""The MLflow connection `databricks`: a profile, or a workspace with one authentication method."""

from ._connection import DatabricksConnection

connection = DatabricksConnection()
"""The instance that is registered under the keyword `databricks`."""

__all__ = ["DatabricksConnection", "connection"]
