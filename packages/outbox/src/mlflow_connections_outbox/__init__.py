"""A crash-safe outbox: an event is on disk when `append` returns, and another process delivers it.

The outbox knows neither what events say nor where they go; a destination is one `Sink`.
"""

from ._interface import (
    Batch,
    Destination,
    Event,
    OpenSink,
    Rejected,
    Sink,
    Unauthorized,
    Unavailable,
)
from ._outbox import Outbox, shared_outbox
from ._policy import Policy

__all__ = [
    "Batch",
    "Destination",
    "Event",
    "OpenSink",
    "Outbox",
    "Policy",
    "Rejected",
    "Sink",
    "Unauthorized",
    "Unavailable",
    "shared_outbox",
]
