"""The interface between a producer, an outbox and a destination."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast, overload

from mlflow_connections.secrets import masked

SINKS = "mlflow_connections.outbox_sinks"
"""The entry-point group that names the sink of destinations in spools of format 1."""


class Event(NamedTuple):
    """One fact.

    Attributes:
        stream: Events of one stream keep their order, also across threads and processes. Usually
            the ID of an MLflow run.
        kind: The type of the event, in the producer's vocabulary, such as `metrics`.
        at: The time in milliseconds since the epoch, UTC.
        data: JSON. NaN and the infinities arrive as floats, keys as text, and values that JSON
            lacks as their `str`.
        id: Identifies this event in every attempt to deliver it. The outbox assigns it; a producer
            leaves it empty.
    """

    stream: str
    kind: str
    at: int
    data: Mapping[str, Any]
    id: str = ""


class Destination(NamedTuple):
    """The service that events go to. Another process opens the sink from it. It is written to disk without secrets.

    Attributes:
        name: A name for people, which also separates two destinations at one URL (`databand`).
        url: The address, without credentials.
        sink: `module:function`, an `OpenSink`. Keep the imports of the module small: a process that
            a user waits for imports it.
    """

    name: str
    url: str
    sink: str


class Batch(Sequence[Event]):
    """The events of one send, in order.

    Args:
        events: The events.
        on_accept: Called with the number of leading events that the destination has.
        on_reject: Called with the position of a rejected event and the reason.
        on_postpone: Called with the position of a postponed event.
        on_allow: Called with the seconds that the next request may take.

    Attributes:
        accepted: The number of leading events that the destination has.
    """

    def __init__(
        self,
        events: Sequence[Event],
        on_accept: Callable[[int], None] = lambda _: None,
        on_reject: Callable[[int, str], None] | None = None,
        on_postpone: Callable[[int], None] | None = None,
        on_allow: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._interface = events
        self._on_accept = on_accept
        self._on_reject = on_reject
        self._on_postpone = on_postpone
        self.allow = on_allow
        """Announce that the next request may take so many seconds longer than the watchdog waits."""
        self.accepted = 0

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | Sequence[Event]:
        return self._interface[index]

    def __len__(self) -> int:
        return len(self._interface)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._interface)

    def accept(self, count: int) -> None:
        """Record that the destination has the first `count` events, or that they were rejected.

        They are never sent again, whatever `send` raises afterwards, and even if the process is
        killed. A smaller count than before changes nothing.

        Raises:
            ValueError: The batch has fewer events.
        """
        if not 0 <= count <= len(self._interface):
            raise ValueError(f"A batch of {len(self._interface)} events cannot accept {count}.")
        if count > self.accepted:
            self._on_accept(count)
            self.accepted = count

    def reject(self, position: int, reason: str) -> None:
        """Set one event aside as a dead letter and continue with the others.

        The event still counts for `accept`, so that a later prefix includes it.

        Args:
            position: The index of the event in this batch.
            reason: The destination's reason.

        Raises:
            ValueError: There is no such event, or it was accepted before.
            OSError: The dead letter could not be written; the event is sent again.
        """
        if not self.accepted <= position < len(self._interface):
            raise ValueError(f"Event {position} of {len(self._interface)} cannot be rejected.")
        if self._on_reject is None:
            raise Rejected(reason, [position])
        self._on_reject(position, reason)

    def postpone(self, position: int) -> None:
        """Queue one event again behind all others, and continue with them.

        For an event that fails alone, and for a reason that may pass, such as the upload of a large file.
        The event still counts for `accept`. It loses its place in its stream.

        Args:
            position: The index of the event in this batch.

        Raises:
            ValueError: There is no such event, or it was accepted before.
            Unavailable: It cannot be queued again; it is sent again in its place.
        """
        if not self.accepted <= position < len(self._interface):
            raise ValueError(f"Event {position} of {len(self._interface)} cannot be postponed.")
        if self._on_postpone is None:
            raise Unavailable("The event cannot be queued again.")
        self._on_postpone(position)


class Sink(Protocol):
    """Delivers batches. One thread of one process uses it."""

    def send(self, batch: Batch) -> None:
        """Deliver a batch in order. Returning accepts all of it.

        Call `batch.accept` after each successful request, so that no fault repeats it. An event may
        still come again if the process is killed between the two: use `Event.id`, or IDs derived
        from the data, so that it counts once. Every single wait must be limited, to half a minute
        at most.

        Raises:
            Unavailable: The destination cannot accept events now. The rest of the batch comes
                again. Any other exception has the same effect.
            Unauthorized: The credentials were refused. The rest comes again, perhaps from a process
                with other credentials.
            Rejected: The destination will never accept these events because of their content.
        """

    def close(self) -> None:
        """Close connections. Nothing is sent afterwards."""


OpenSink = Callable[[Destination, Mapping[str, str], Path], Sink]
"""Opens a sink for a destination, with an environment (the variables of the process, overridden by the
secrets of the outbox) and the folder in which the sink may keep state. The folder survives
processes and is used by one of them at a time. It may also be empty: events that the disk does not
take are sent with a temporary one. If the sink keeps data of events there, its module has a
function `forget_dropped(state, events)`, which removes the data of dropped events (None for all).
"""


class Unavailable(Exception):  # noqa: N818 - describes a destination
    """The destination is down, slow, unreachable or busy (5xx, 429): retry later.

    Attributes:
        retry_after: Seconds that the destination asks to wait; None leaves it to the backoff.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unauthorized(Unavailable):
    """The destination does not accept the credentials (401, 403). Events are kept."""


class Rejected(Exception):  # noqa: N818 - describes a batch
    """The destination will never accept these events as they are (other 4xx).

    Attributes:
        positions: The indexes of the rejected events in the batch, if the destination names them.
            If empty, the events that were not accepted are sent again in halves until the rejected
            ones are isolated.
    """

    def __init__(self, message: str, positions: Collection[int] = ()) -> None:
        super().__init__(message)
        self.positions = frozenset(positions)


def open_sink(destination: Destination, secrets: Mapping[str, str], state: Path) -> Sink:
    """Open the sink of a destination.

    Args:
        destination: Names the function.
        secrets: Variables that override those of this process.
        state: The folder in which the sink may keep state.

    Raises:
        ImportError: The function does not exist.
    """
    module, _, function = destination.sink.partition(":")
    try:
        opens = cast("OpenSink", getattr(import_module(module), function))
    except AttributeError as error:
        raise ImportError(f"The sink {destination.sink} does not exist.") from masked(error)
    return opens(destination, {**os.environ, **secrets}, state)


def forget_dropped(destination: Destination, state: Path, events: Sequence[Event] | None) -> None:
    """Let a sink remove the data of dropped events from its state.

    The module of the sink may have a function `forget_dropped` with the last two arguments.

    Args:
        destination: Names the module.
        state: The folder in which the sink keeps state.
        events: The events, or None for all.
    """
    with suppress(ImportError):
        forget = getattr(import_module(destination.sink.partition(":")[0]), "forget_dropped", None)
        if forget is not None:
            forget(state, events)


def sink_of(name: str) -> str | None:
    """Return the registered `module:function` for destinations of a name, or None if there is none."""
    for entry in entry_points(group=SINKS, name=name):
        return entry.value
    return None
