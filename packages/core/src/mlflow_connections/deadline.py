"""Wait for calls that may block for minutes, up to a time limit."""

import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ._errors import UnreachableError

__all__ = ["CHECK_SECONDS", "Deadline", "left_a_thread"]

T = TypeVar("T")

CHECK_SECONDS = 30.0
"""The default time limit of a `check` for all responses together, in seconds."""

# A wait on Windows cannot be interrupted by Ctrl-C, so it is split into slices, in seconds.
_SLICE = 0.5


class Deadline:
    """A common time limit of several calls, in seconds.

    A call runs in a thread, since nothing can interrupt a client that retries: after the deadline
    its thread is left behind, as it is after Ctrl-C.

    Args:
        seconds: The time for all calls.
        remedy: Part of the error, a sentence with the user's remedy.

    Attributes:
        seconds: The time for all calls; None waits for ever, and calls in this thread.
    """

    def __init__(
        self, seconds: float | None, remedy: str = "Use --timeout to wait longer."
    ) -> None:
        self.seconds = seconds
        self._remedy = remedy
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Return the remaining seconds, at least 0.1 since no client accepts a timeout of 0; None if unlimited."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.1)

    def call(self, waiting_for: str, function: Callable[[], T]) -> T:
        """Return a function's result, or raise its error.

        Args:
            waiting_for: Part of the error, as in `the answer of https://server`.
            function: The function to call.

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
                    f"Gave up after {self.seconds:g} s, waiting for {waiting_for}. {self._remedy}"
                )
        ((succeeded, result),) = box
        if succeeded:
            value: T = result
            return value
        raise result


# The threads that wait now, including abandoned ones.
_waiting: list[threading.Thread] = []


def left_a_thread() -> bool:
    """Return whether a thread still waits, so that the end of this process could hang."""
    return any(thread.is_alive() for thread in _waiting)
