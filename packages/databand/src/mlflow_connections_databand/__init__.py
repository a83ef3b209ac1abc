"""A copy of each MLflow run for Databand: the connection `databand` and the store behind its URIs."""

from ._connection import Databand, connection

__all__ = ["Databand", "connection"]
