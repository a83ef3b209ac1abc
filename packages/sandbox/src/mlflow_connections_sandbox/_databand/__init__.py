"""The stand-in of Databand: its tracking API, over the wire, and the data that it received."""

from ._compare import compare
from ._stand_in import Databand

__all__ = ["Databand", "compare"]
