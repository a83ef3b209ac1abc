"""A list of what happened, whole or only its newest part."""

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """What happened, in the order it did. Many threads may write to it.

    All of it is kept, since a test asserts on the first thing that arrived as well as on the last,
    until `keep` says otherwise: a sandbox that runs for days must not grow.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._added = 0
        self._lock = threading.Lock()

    def add(self, item: T) -> None:
        """Note one more."""
        with self._lock:
            self._items.append(item)
            self._added += 1

    def all(self) -> list[T]:
        """Give all that is kept, oldest first."""
        with self._lock:
            return list(self._items)

    def newest(self, count: int) -> list[tuple[int, T]]:
        """Give the newest, newest first, each with its number, which no other ever had."""
        with self._lock:
            shown = range(1, min(count, len(self._items)) + 1)
            return [(self._added - back, self._items[-back]) for back in shown]

    def keep(self, newest: int) -> None:
        """Keep only so many, the newest, from now on."""
        with self._lock:
            self._items = deque(self._items, maxlen=newest)

    def clear(self) -> None:
        """Forget everything, before the part of a test that counts."""
        with self._lock:
            self._items.clear()
