"""The stand-in of Databand, and a comparison of its copies with MLflow, for tests and demonstrations."""

from ._databand import Databand, compare

__all__ = ["Databand", "compare"]
