"""The stand-in of a Databricks workspace: accounts, tracking, both registries and DBFS."""

from ._workspace import Databricks

__all__ = ["Databricks"]
