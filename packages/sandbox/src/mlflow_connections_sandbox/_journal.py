"""The journal of a stand-in: the received requests, for assertions in tests and for the sandbox's page."""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class RingLog(Generic[T]):
    """Items in the order they were added. Many threads may write to it.

    It keeps every item, since a test may assert on any of them, until `keep` limits it: a sandbox
    that runs for days must not grow.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._added = 0
        self._lock = threading.Lock()

    def add(self, item: T) -> None:
        """Add one item."""
        with self._lock:
            self._items.append(item)
            self._added += 1

    def all(self) -> list[T]:
        """Return all items, oldest first."""
        with self._lock:
            return list(self._items)

    def newest(self, count: int) -> list[tuple[int, T]]:
        """Return the newest items, newest first, each with a number that no other item ever had."""
        with self._lock:
            shown = range(1, min(count, len(self._items)) + 1)
            return [(self._added - back, self._items[-back]) for back in shown]

    def keep(self, newest: int) -> None:
        """Keep only the newest items from now on."""
        with self._lock:
            self._items = deque(self._items, maxlen=newest)

    def clear(self) -> None:
        """Remove all items, for example before the part of a test that counts."""
        with self._lock:
            self._items.clear()


class Received(NamedTuple):
    """One request.

    Attributes:
        at: Seconds since the epoch.
        method: The HTTP method.
        path: The path without its query, which may contain a token.
        status: The status of the response; 0 if the connection was cut instead.
        seconds: The time until the response.
        is_fault: Whether a fault was injected.
        reason: The text of an error response, without secrets; empty for other responses.
    """

    at: float
    method: str
    path: str
    status: int
    seconds: float
    is_fault: bool = False
    reason: str = ""


class Journal:
    """The requests received so far. Many threads may write to it."""

    def __init__(self) -> None:
        self._received: RingLog[Received] = RingLog()
        self._counts: Counter[int] = Counter()
        self._lock = threading.Lock()

    def add(
        self,
        method: str,
        path: str,
        status: int,
        seconds: float,
        *,
        is_fault: bool = False,
        reason: str = "",
    ) -> None:
        """Add a request."""
        self._received.add(Received(time.time(), method, path, status, seconds, is_fault, reason))
        with self._lock:
            self._counts[status] += 1

    def requests(self, path: str = "") -> list[Received]:
        """Return the requests whose path contains a text."""
        return [r for r in self._received.all() if path in r.path]

    def newest(self, count: int) -> list[tuple[int, Received]]:
        """Return the newest requests, newest first, each with its own number."""
        return self._received.newest(count)

    def counts(self) -> Mapping[int, int]:
        """Return the number of requests by status, including those no longer kept."""
        with self._lock:
            return dict(self._counts)

    def keep(self, newest: int) -> None:
        """Keep only the newest requests from now on; all of them are counted."""
        self._received.keep(newest)

    def clear(self) -> None:
        """Remove all requests and counts, for example before the part of a test that counts."""
        self._received.clear()
        with self._lock:
            self._counts.clear()
