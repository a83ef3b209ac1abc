"""One time limit over calls that have none of their own, or one for each request."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from mlflow_connections import UnreachableError

T = TypeVar("T")


class RequestDeadline:
    """A time limit that begins when it is created.

    Attributes:
        seconds: The limit.
        waiting_for: The service that is asked now, as the message of a timeout names it.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.waiting_for = "Azure"
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """The seconds that are left, at least 0.1: no client takes a timeout of 0."""
        return max(self._end - time.monotonic(), 0.1)

    def run(self, call: Callable[[], T]) -> T:
        """Return the result of a call, or raise its exception.

        A call that is too slow is left behind in its thread, which does not keep the process
        alive: azureml-core cannot be interrupted, and retries for minutes.

        Raises:
            UnreachableError: The call did not end in time.
        """
        results: list[T] = []
        errors: list[BaseException] = []

        def collect() -> None:
            try:
                results.append(call())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                errors.append(error)

        thread = threading.Thread(target=collect, name="azureml connection", daemon=True)
        thread.start()
        thread.join(self.left)
        if errors:
            raise errors[0]
        if results:
            return results[0]
        raise UnreachableError(
            f"{self.waiting_for} did not answer within {self.seconds:g} s. Check the network, "
            "HTTPS_PROXY and the firewall, or raise 'timeout' in the connection options."
        )
