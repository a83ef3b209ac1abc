"""Faults that a stand-in plays on demand, before its own code ever sees the request."""

import threading
from typing import NamedTuple


class Fault(NamedTuple):
    """What goes wrong.

    Attributes:
        path: Requests whose path contains this text are hit; empty hits all.
        status: Answer with this status; 0 lets the request through (after `delay`).
        body: The body that goes with `status`.
        content_type: Its type; a gateway that is down answers HTML, say.
        headers: More headers of that answer, `Retry-After` for one.
        delay: Seconds to wait first. Alone it lets the request through late; with `cut` it hangs.
        cut: Close the connection without an answer.
        truncate: Send the head of the true answer and this many bytes of its body, then cut. None
            sends all.
        times: How many requests are hit; None means until cleared.
    """

    path: str = ""
    status: int = 0
    body: str = ""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    cut: bool = False
    truncate: int | None = None
    times: int | None = None


class Faults:
    """The faults in force. Safe for a test's thread to change while requests arrive.

    Attributes:
        over: Set while the stand-in ends: whom a delay holds is cut off.
    """

    def __init__(self) -> None:
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._faults: list[tuple[Fault, int | None]] = []

    def inject(self, fault: Fault) -> None:
        """Put a fault in force, after those that are."""
        with self._lock:
            self._faults.append((fault, fault.times))

    def clear(self) -> None:
        """Take every fault back: the service has recovered."""
        with self._lock:
            self._faults.clear()

    def take(self, path: str) -> Fault | None:
        """Give the first fault that hits this path, and count it."""
        with self._lock:
            for index, (fault, left) in enumerate(self._faults):
                if fault.path not in path:
                    continue
                if left is not None:
                    if left <= 1:
                        del self._faults[index]
                    else:
                        self._faults[index] = (fault, left - 1)
                return fault
        return None
