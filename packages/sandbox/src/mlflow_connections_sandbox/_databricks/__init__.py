"""The stand-in of a Databricks workspace: accounts, tracking, the legacy registry and DBFS."""

from ._workspace import Databricks

__all__ = ["Databricks"]
