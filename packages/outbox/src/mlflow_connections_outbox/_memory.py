"""Events that the disk does not take: they wait in memory, and a thread ships them."""

import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from ._delivery import Delivery
from ._interface import Event, Sink, Unavailable
from ._policy import Policy
from ._reader import Record
from ._status import Status


class Memory:
    """Events of this process that are in no file. They are lost with the process.

    Args:
        open_sink: Opens a sink in this process.
        policy: The limit of waiting events.
        may_send: Returns whether all earlier events on the disk are delivered, which comes first.
        rejected: Called with the reason of a destination that rejects an event permanently.
    """

    def __init__(
        self,
        open_sink: Callable[[], Sink],
        policy: Policy,
        may_send: Callable[[], bool],
        rejected: Callable[[str], None],
    ) -> None:
        self._policy = policy
        self._may_send = may_send
        self._rejected = rejected
        self._name = f"memory-{secrets.token_hex(8)}"
        self._events: deque[tuple[int, int, bytes]] = deque()
        self._added = 0
        self._bytes = 0
        self._flush = False
        # Reentrant because signal handlers may append.
        self.guard = threading.RLock()
        self._thread: threading.Thread | None = None
        self._delivery = Delivery(self, open_sink, policy, lambda _: None)

    def __len__(self) -> int:
        return len(self._events)

    @property
    def status(self) -> Status:
        """The state of the delivery from memory."""
        return self._delivery.status

    def append(self, body: bytes) -> bool:
        """Keep an encoded event, and return whether there was room. The caller holds a lock."""
        with self.guard:
            if self._bytes + len(body) > self._policy.max_memory:
                return False
            self._added += 1
            self._bytes += len(body)
            self._events.append((time.monotonic_ns(), self._added, body))
            if self._thread is None:
                self._thread = threading.Thread(target=self._ship, name="outbox", daemon=True)
                self._thread.start()
        return True

    def request_flush(self) -> None:
        """Send without waiting for the batch to fill."""
        self._flush = True

    def collect(self, limit: int) -> list[Record]:
        """Return the next events, once nothing older waits on the disk."""
        if not self._events or not self._may_send():
            return []
        with self.guard:  # other threads append at the same time
            events = list(islice(self._events, limit))
        records: list[Record] = []
        for stamp, number, body in events:
            stream, kind, at, data, *_ = json.loads(body)
            event = Event(stream, kind, at, data, f"{self._name}:{number}")
            records.append(Record(stamp, number, self._name, event))
        return records

    def read_ahead(self, limit: int) -> None:
        """Do nothing: everything is in memory."""

    def acknowledge(self, records: Sequence[Record], rejected: int = 0) -> None:  # noqa: ARG002
        """Forget events that the destination has."""
        with self.guard:
            for _ in records:
                self._bytes -= len(self._events.popleft()[2])

    def reject(self, record: Record, reason: str) -> None:  # noqa: ARG002 - it cannot be kept
        """Report an event that the destination will never accept; it cannot be kept."""
        self._rejected(reason)

    def postpone(self, record: Record) -> None:  # noqa: ARG002
        """Refuse: events in memory are few, and keep their order.

        Raises:
            Unavailable: Always.
        """
        raise Unavailable("An event in memory keeps its place.")

    def expire(self, seconds: float) -> int:  # noqa: ARG002
        """Set nothing aside: a process does not live that long without its disk."""
        return 0

    def damaged(self) -> int:
        """Return 0: memory is never damaged."""
        return 0

    def _ship(self) -> None:
        while True:
            flush, self._flush = self._flush, False
            if self._delivery.step(flush):
                continue
            with self.guard:
                if not self._events:
                    self._thread = None
                    self._delivery.close()
                    return
            time.sleep(self._policy.poll)
