"""What a stand-in received: kept for tests to assert on and for people to look at."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from ._kept import Kept


class Received(NamedTuple):
    """One request as it arrived.

    Attributes:
        at: Seconds since the epoch.
        method: The HTTP method.
        path: The path without its query, so that no token in a query shows.
        status: What was answered; 0 where the connection was cut instead.
        seconds: How long the answer took.
        is_fault: Whether a fault was played.
    """

    at: float
    method: str
    path: str
    status: int
    seconds: float
    is_fault: bool = False


class Journal:
    """The requests so far. Many threads may write to it."""

    def __init__(self) -> None:
        self._received: Kept[Received] = Kept()
        self._counts: Counter[int] = Counter()
        self._lock = threading.Lock()

    def add(
        self, method: str, path: str, status: int, seconds: float, *, is_fault: bool = False
    ) -> None:
        """Note one request."""
        self._received.add(Received(time.time(), method, path, status, seconds, is_fault))
        with self._lock:
            self._counts[status] += 1

    def requests(self, path: str = "") -> list[Received]:
        """Give what has arrived so far at paths that contain the given text."""
        return [r for r in self._received.all() if path in r.path]

    def newest(self, count: int) -> list[tuple[int, Received]]:
        """Give the newest requests, newest first, each with a number of its own."""
        return self._received.newest(count)

    def counts(self) -> Mapping[int, int]:
        """Give how many requests ended with each status, those no longer kept too."""
        with self._lock:
            return dict(self._counts)

    def keep(self, newest: int) -> None:
        """Keep only so many requests, the newest, from now on; all of them are counted."""
        self._received.keep(newest)

    def clear(self) -> None:
        """Forget everything, before the part of a test that counts."""
        self._received.clear()
        with self._lock:
            self._counts.clear()
