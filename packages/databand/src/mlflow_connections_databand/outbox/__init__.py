"""A crash-safe outbox: events are on the disk before a call returns, and a process ships them.

It knows nothing of what the events say and of where they go; a destination is one `Sink`.
"""

from ._events import Destination, Event, Refused, Sink, Unauthorized, Unavailable
from ._outbox import Outbox

__all__ = [
    "Destination",
    "Event",
    "Outbox",
    "Refused",
    "Sink",
    "Unauthorized",
    "Unavailable",
]
