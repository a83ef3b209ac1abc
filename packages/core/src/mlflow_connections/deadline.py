"""Wait for calls that may block for minutes, and stop waiting after some seconds."""

import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ._errors import UnreachableError

__all__ = ["CHECK_SECONDS", "Deadline", "left_a_thread"]

T = TypeVar("T")

CHECK_SECONDS = 30.0
"""How long a `check` waits for all answers together, unless it is told otherwise."""

# A wait on Windows cannot be interrupted by Ctrl-C, so it is cut into slices, in seconds.
_SLICE = 0.5


class Deadline:
    """The seconds that several calls may take together.

    A call runs in a thread, since nothing can interrupt a client that retries: after the deadline
    its thread is left behind, as it is after Ctrl-C.

    Attributes:
        seconds: The time for all calls; None waits for ever, and calls in this thread.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Return the seconds that are left, at least 0.1 since no client takes a timeout of 0; None if for ever."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.1)

    def call(
        self,
        waiting_for: str,
        function: Callable[[], T],
        remedy: str = "Use --timeout to wait longer.",
    ) -> T:
        """Return what a function returns, or raise what it raises.

        Args:
            waiting_for: Said in the error, as in `the answer of https://server`.
            function: What to call.
            remedy: Said in the error, a sentence on what the user can do.

        Raises:
            UnreachableError: The deadline has passed.
        """
        if self._end is None:
            return function()
        box: list[Any] = []
        done = threading.Event()
        context = contextvars.copy_context()

        def work() -> None:
            try:
                box.append((True, context.run(function)))
            except BaseException as error:  # noqa: BLE001 - it is raised again by the caller
                box.append((False, error))
            _waiting.remove(thread)
            done.set()

        thread = threading.Thread(target=work, name="mlflow-connections-check", daemon=True)
        _waiting.append(thread)
        thread.start()
        while not done.wait(min(_SLICE, max(self._end - time.monotonic(), 0))):
            if time.monotonic() >= self._end:
                raise UnreachableError(
                    f"Gave up after {self.seconds:g} s, waiting for {waiting_for}. {remedy}"
                )
        ((succeeded, result),) = box
        if succeeded:
            value: T = result
            return value
        raise result


# The threads that wait now, also those that nobody waits for any more.
_waiting: list[threading.Thread] = []


def left_a_thread() -> bool:
    """Return whether a thread still waits, so that the end of this process could hang."""
    return any(thread.is_alive() for thread in _waiting)
