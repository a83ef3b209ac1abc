"""A crash-safe outbox: events are on the disk before a call returns, and a process ships them.

It knows nothing of what the events say and of where they go; a destination is one `Sink`.
"""

from ._events import Destination, Event, Refused, Sink, Unauthorized, Unavailable
from ._outbox import Outbox
from ._policy import Policy

__all__ = [
    "Destination",
    "Event",
    "Outbox",
    "Policy",
    "Refused",
    "Sink",
    "Unauthorized",
    "Unavailable",
]
