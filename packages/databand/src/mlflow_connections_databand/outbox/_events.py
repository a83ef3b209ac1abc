"""The seam: what goes into an outbox, where it goes, and how a destination says no."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Event(NamedTuple):
    """One thing that happened.

    Attributes:
        stream: Order is kept within a stream, across threads and processes too (the MLflow run id).
        kind: What happened, a word of the producer's own (`metrics`).
        at: When, in milliseconds since the epoch, UTC.
        data: JSON. NaN and the infinities arrive as the floats that they are, keys as text, and
            anything that JSON does not know as its `str`.
        id: Names this event for ever, the same in each attempt to deliver it. The outbox gives it;
            a producer leaves it empty.
    """

    stream: str
    kind: str
    at: int
    data: Mapping[str, Any]
    id: str = ""


class Destination(NamedTuple):
    """What another process needs to build the sink anew. It is written to the disk: no secret in it.

    Attributes:
        name: For people, and to tell apart two destinations at one URL (`databand`).
        url: Where it is, without credentials.
        factory: `module:function`, called with the destination and an environment (this process'
            variables and the outbox's secrets over them); it returns a `Sink`. The module should
            import only what sending needs: it is imported in a process that is waited for.
    """

    name: str
    url: str
    factory: str


class Sink(Protocol):
    """A destination that takes batches. Used by one thread at a time, made and used in one process."""

    def send(self, events: Sequence[Event]) -> None:
        """Deliver a batch, in order; return only when the destination has accepted all of it.

        The same event may come again after a fault: use `Event.id`, or ids derived from the data,
        so that it does not count twice. Every wait inside must be bounded, half a minute at most.

        Raises:
            Unavailable: Not now; the same batch comes again. Any other exception counts as this.
            Unauthorized: Not with these credentials; the batch comes again, perhaps from a process
                that has others.
            Refused: Never, because of what the events say.
        """

    def close(self) -> None:
        """Let connections go. Nothing is sent afterwards."""


class Unavailable(Exception):  # noqa: N818 - said of a destination
    """The destination is down, slow, cut off or busy (5xx, 429, a wrong address): retry later.

    Attributes:
        retry_after: Seconds that the destination asks to wait; None leaves it to the backoff.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unauthorized(Unavailable):
    """The destination does not take these credentials (401, 403). Events are kept."""


class Refused(Exception):  # noqa: N818 - said of a batch
    """The destination will never accept this batch as it is (other 4xx).

    Attributes:
        positions: Which events of the batch are at fault, by index, where the destination tells.
            Empty where it does not: the batch is then halved until the faulty ones stand alone.
    """

    def __init__(self, message: str, positions: Collection[int] = ()) -> None:
        super().__init__(message)
        self.positions = frozenset(positions)
