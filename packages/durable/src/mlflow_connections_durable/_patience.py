"""Calls to the server with a deadline, and silence after one that failed.

MLflow's own timeouts are variables of the whole process and last for minutes, so a call runs in a thread
of its own, which is abandoned at the deadline. Calls that write make one attempt of each request (see
`_mlflow.asking_store`), and none once they are abandoned: what goes on in the background could create
something a second time, or undo what was delivered meanwhile.
"""

import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from mlflow_connections.secrets import mask_uri
from mlflow_connections_events.replay import described, judge, missing_endpoint, network_fault
from mlflow_connections_outbox import Rejected, Unauthorized

T = TypeVar("T")

ATTEMPT_SECONDS = 2.0
"""The time limit of one attempt of a request, in seconds."""
DEADLINE_SECONDS = 2.3
"""The longest wait of a caller for an attempt in seconds, including name resolution."""
SILENCE_SECONDS = 5.0
"""Seconds after a failed attempt in which the server is not called again."""
MOST_ABANDONED = 4
"""The attempts that may go on with nobody waiting: some clients sign in for minutes to a service that is down."""
_PROBE_EVERY = 1.0
_PROBE_SECONDS = 1.3

_NEVER_ARRIVED = ("ConnectTimeout", "NewConnectionError", "NameResolutionError")


_thread = threading.local()


def is_abandoned() -> bool:
    """Return whether nobody waits any more for the call that the current thread makes."""
    running = getattr(_thread, "running", None)
    return running is not None and running.is_abandoned


class Away(Exception):  # noqa: N818 - said of a server
    """The server does not respond.

    Attributes:
        unsure: Whether the request may have arrived, so that the server may still act on it.
    """

    def __init__(self, message: str, *, unsure: bool = False) -> None:
        super().__init__(message)
        self.unsure = unsure


class Patience:
    """Calls one server, and remembers that it did not respond.

    Args:
        uri: Its tracking URI, for messages.
        clock: Returns the seconds of a monotonic clock.
    """

    def __init__(self, uri: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._uri = uri
        self._clock = clock
        self._silent_until = float("-inf")
        self._reason = "it was not asked yet"
        self._abandoned: list[_Running[Any]] = []

    def attempt(
        self,
        call: Callable[[], T],
        probe: Callable[[], object] | None = None,
        *,
        proves: bool = True,
    ) -> T:
        """Make one attempt of a call that itself does not retry.

        Args:
            call: The call.
            probe: Asks the server for next to nothing, for a call whose endpoint not every server has: a
                server that answers this probe refuses the call. Without it, every 404 without a
                reason is that of a proxy which finds no server.
            proves: Whether a success means that the server responds.

        Raises:
            Away: The server does not respond, is busy, or does not accept the credentials.
            Exception: MLflow's own, if the server refuses the request.
        """
        self._refuse_if_silent()
        self._abandoned = [each for each in self._abandoned if not each.is_done]
        if len(self._abandoned) >= MOST_ABANDONED:
            raise self._away("earlier requests still wait for a response", unsure=False)
        until = self._clock() + DEADLINE_SECONDS
        running = _Running(call)
        if not running.wait(DEADLINE_SECONDS):
            running.is_abandoned = True
            self._abandoned.append(running)
            raise self._away(f"no response in {DEADLINE_SECONDS:g} seconds", unsure=True)
        if not proves and running.error is None:
            return running.value
        return self._result(running, probe, until)

    def wait(self, call: Callable[[], T], probe: Callable[[], object], *, proves: bool = True) -> T:
        """Wait for a call however long it takes, as long as the server responds to probes.

        Args:
            call: The call.
            probe: Asks the server for next to nothing.
            proves: Whether a success of the call means that the server responds.

        Raises:
            Away: The server does not respond.
            Exception: MLflow's own, if the server refuses the request.
        """
        self._refuse_if_silent()
        running = _Running(call)
        while not running.wait(_PROBE_EVERY):
            probing = _Running(probe)
            # Either of the two ends the wait.
            until = self._clock() + _PROBE_SECONDS
            while not running.is_done and not probing.is_done and self._clock() < until:
                running.wait(0.02)
            if running.is_done:
                break
            if not probing.is_done:
                running.is_abandoned = probing.is_abandoned = True
                raise self._away("no response to a probe", unsure=True)
            if probing.error is not None:
                running.is_abandoned = True
            self._result(probing)
        if not proves and running.error is None:
            return running.value
        return self._result(running, probe, self._clock() + _PROBE_SECONDS)

    @property
    def is_silent(self) -> bool:
        """Whether the server has just failed and is not called."""
        return self._clock() < self._silent_until

    @property
    def reason(self) -> str:
        """The reason of the silence; empty if the server is not silent."""
        return self._reason if self.is_silent else ""

    def _refuse_if_silent(self) -> None:
        if self.is_silent:
            raise Away(self._reason)

    def _result(
        self,
        running: "_Running[T]",
        probe: Callable[[], object] | None = None,
        until: float = float("-inf"),
    ) -> T:
        error = running.error
        if error is None:
            self._silent_until = float("-inf")
            return running.value
        judged = judge(error, self._uri)
        if isinstance(judged, Rejected) or (
            probe is not None and missing_endpoint(error) and self._answers(probe, until)
        ):
            self._silent_until = float("-inf")
            raise error
        fault = "does not respond" if network_fault(error) else "does not take requests now"
        if isinstance(judged, Unauthorized):
            fault = "does not accept the credentials"
        raise self._away(described(error), unsure=not _never_arrived(error), fault=fault)

    def _answers(self, probe: Callable[[], object], until: float) -> bool:
        probing = _Running(probe)
        if probing.wait(max(0.0, until - self._clock())):
            return probing.error is None
        probing.is_abandoned = True
        self._abandoned.append(probing)
        return False

    def _away(self, reason: str, *, unsure: bool, fault: str = "does not respond") -> Away:
        self._silent_until = self._clock() + SILENCE_SECONDS
        self._reason = f"The MLflow server at {mask_uri(self._uri)} {fault}: {reason.rstrip('.')}"
        return Away(self._reason, unsure=unsure)


class _Running(threading.Thread, Generic[T]):
    """A call in a thread of its own, which nobody has to wait for.

    Attributes:
        is_abandoned: Whether nobody waits for it any more.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        super().__init__(name="mlflow-connections-durable", daemon=True)
        self._context = contextvars.copy_context()
        self._call = call
        self._done = threading.Event()
        self.value: T
        self.error: Exception | None = None
        self.is_abandoned = False
        self.start()

    def run(self) -> None:
        _thread.running = self
        try:
            self.value = self._context.run(self._call)
        except Exception as error:  # noqa: BLE001 - raised again by who waits
            self.error = error
        finally:
            self._done.set()

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the call, and return whether it ended."""
        return self._done.wait(seconds)


def _never_arrived(error: BaseException | None) -> bool:
    """Return whether a request certainly never reached the server: no connection was accepted."""
    seen = 0
    text = f"{error}"
    while error is not None and seen < 10:
        if type(error).__name__ in _NEVER_ARRIVED or isinstance(error, ConnectionRefusedError):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return any(name in text for name in (*_NEVER_ARRIVED, "Connection refused"))
