"""What a stand-in received: kept for tests to assert on and for people to look at."""

import threading
import time
from typing import NamedTuple


class Received(NamedTuple):
    """One request as it arrived.

    Attributes:
        at: Seconds since the epoch.
        method: The HTTP method.
        path: The path without its query, so that no token in a query shows.
        status: What was answered; 0 where the connection was cut instead.
        seconds: How long the answer took.
    """

    at: float
    method: str
    path: str
    status: int
    seconds: float


class Journal:
    """An append-only list of requests that many threads may write to."""

    def __init__(self) -> None:
        self._received: list[Received] = []
        self._lock = threading.Lock()

    def add(self, method: str, path: str, status: int, seconds: float) -> None:
        """Note one request."""
        with self._lock:
            self._received.append(Received(time.time(), method, path, status, seconds))

    def requests(self, path: str = "") -> list[Received]:
        """Give what has arrived so far at paths that contain the given text."""
        with self._lock:
            return [r for r in self._received if path in r.path]

    def clear(self) -> None:
        """Forget everything, before the part of a test that counts."""
        with self._lock:
            self._received.clear()
