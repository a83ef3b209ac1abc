"""The outbox of one destination in this process."""

import atexit
import os
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow_connections.secrets import mask_uri

from . import _status
from ._fault_log import FaultLog
from ._frames import encode
from ._interface import Destination, Event, open_sink
from ._launcher import Launcher
from ._memory import Memory
from ._policy import Policy
from ._spool import request_flush
from ._writer import SpoolFull, Writer, acknowledged

_DISK_TRIED_EVERY = 1.0
_LOOK_EVERY = 1_000_000_000  # nanoseconds
_JUST_FAILED = 5.0
_FLUSH_LOOKS_EVERY = 0.01


class Outbox:
    """Keeps events on the disk until their destination has them. Safe for threads, fork and spawn.

    One per destination and process is meant. It lives until the process ends, or `close`.

    Args:
        destination: Where the events go.
        secrets: Environment variables that the sink's factory sees and the disk never does.
        policy: Limits and timings; by default what the environment says.

    Raises:
        ValueError: The destination's URL has credentials in it, which would be on the disk.
    """

    def __init__(
        self,
        destination: Destination,
        secrets: Mapping[str, str] | None = None,
        policy: Policy | None = None,
    ) -> None:
        if mask_uri(destination.url) != destination.url:
            raise ValueError(
                f"The URL {mask_uri(destination.url)} of the destination '{destination.name}' "
                "holds credentials: hand them over as secrets."
            )
        wrong: list[str] = []
        if policy is None:
            policy, wrong = Policy.read()
        self.destination = destination
        self._secrets = dict(secrets or {})
        self._policy = policy
        self._faults = FaultLog(destination, policy)
        for sentence in wrong:
            self._faults.wrong_setting(sentence)
        self._begin()
        _living.add(self)

    def _begin(self) -> None:
        """Set up all that belongs to one process alone."""
        # Reentrant: a signal handler may append while it interrupts an append.
        self._lock = threading.RLock()
        self._begun = time.monotonic()
        self._writer = Writer(self.destination, self._policy)
        self._launcher: Launcher | None = None
        self._look_at = 0
        self._seen = 0
        self._unauthorized = False
        self._disk_tried_at = float("-inf")
        self._not_taken = 0
        self._stalled_at: tuple[Path, int] | None = None
        self._state: TemporaryDirectory[str] | None = None
        self._memory = Memory(
            lambda: open_sink(self.destination, self._secrets, self._temporary_state()),
            self._policy,
            lambda: not self._writer.mark(),
            lambda reason: self._faults.refused(reason, 1, "lost, for it was in no file"),
        )

    def _temporary_state(self) -> Path:
        """Create a folder for the sink of events that the disk of the spool does not take."""
        if self._state is None:
            self._state = TemporaryDirectory(prefix="mlflow-connections-outbox-")
        return Path(self._state.name)

    @property
    def folder(self) -> Path | None:
        """Where this process' events are, once there are any on the disk."""
        return self._writer.folder

    def append(self, event: Event) -> None:
        """Keep an event: it is on the disk when this returns. Never raises, whatever is wrong."""
        try:
            body = encode(event)
            with self._lock:
                self._append(body)
        except Exception as error:  # noqa: BLE001 - user code must not fail for a second destination
            self._faults.not_kept(f"Keeping an event ({event.kind}) for", error)

    def flush(self, timeout: float) -> int:
        """Wait until all that this process appended is delivered, but never long.

        Returns at once where waiting is known to be pointless: the destination just failed, or was
        waited for in vain before and has accepted nothing since. Never raises.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            How many events of this process still wait.
        """
        try:
            return self._flush(timeout)
        except Exception as error:  # noqa: BLE001 - as in append
            self._faults.not_kept("Waiting for", error)
            return len(self._memory)

    def close(self, timeout: float = 0.0) -> int:
        """Flush, and leave the rest to the shipper. What is appended later opens the outbox again.

        Returns:
            How many events of this process still wait.
        """
        left = self.flush(timeout)
        with self._lock:
            self._writer.close()
        return left

    def _append(self, body: bytes) -> None:
        if self._memory or self._disk_tried_at > time.monotonic() - _DISK_TRIED_EVERY:
            # Behind what is in memory already, so that order is kept.
            self._append_to_memory(body)
            return
        try:
            stamp = self._writer.append(body)
        except SpoolFull:
            self._not_taken += 1
            self._faults.full(self.folder, self._writer.waiting)
            return
        except (OSError, AttributeError) as error:  # the latter: an operating system without locks
            self._disk_tried_at = time.monotonic()
            self._append_to_memory(body)
            self._faults.no_disk(error)
            return
        # Here, for a thread that does it would warn users of Python 3.12 who fork.
        if stamp >= self._look_at:
            self._look_at = stamp + _LOOK_EVERY
            self._look()

    def _append_to_memory(self, body: bytes) -> None:
        if not self._memory.append(body):
            self._not_taken += 1
            self._faults.no_memory(len(self._memory))

    def _look(self) -> None:
        """See to it that there is a shipper, and tell of what it reports."""
        folder = self._writer.folder
        if folder is None:
            return
        if self._launcher is None:
            self._launcher = Launcher(folder, self.destination, self._policy, self._secrets)
        self._writer.look()
        written = _status.written_at(folder)
        if written != self._seen:
            self._seen = written
            status = _status.read(folder)
            self._unauthorized = status.state == _status.UNAUTHORIZED
            if _status.is_since(
                status, self._begun
            ):  # not what the shipper of an earlier process said
                self._faults.status(folder, status, self._writer.waiting)
        self._launcher.ensure_soon(self._unauthorized)

    def _flush(self, timeout: float) -> int:
        called = time.monotonic()
        mark = self._writer.mark()
        if (folder := self._writer.folder) and mark:
            with suppress(OSError):  # it then takes its usual time
                request_flush(folder)
        self._memory.request_flush()
        while mark or self._memory:
            mark = [(path, end) for path, end in mark if acknowledged(path) < end]
            position = (mark[0][0], acknowledged(mark[0][0])) if mark else None
            if position is not None and position == self._stalled_at:
                break
            if time.monotonic() >= called + timeout:
                self._stalled_at = position if timeout > 0 else self._stalled_at
                break
            status = _status.read(folder) if folder and mark else self._memory.status
            if _status.is_failing(status, max(self._begun, called - _JUST_FAILED)):
                break
            self._look()
            time.sleep(_FLUSH_LOOKS_EVERY)
        self._look()
        return self._writer.waiting() + len(self._memory)


_sharing = threading.Lock()
_shared: dict[tuple[Destination, tuple[tuple[str, str], ...]], Outbox] = {}


def shared_outbox(destination: Destination, secrets: Mapping[str, str]) -> Outbox:
    """Return the outbox of this process for a destination and secrets, created at the first call.

    The secrets are kept as they are now: variables may be restored when a connection ends, and
    events that it left are delivered later.

    Raises:
        ValueError: The URL of the destination has credentials in it.
    """
    key = (destination, tuple(sorted(secrets.items())))
    with _sharing:
        if key not in _shared:
            _shared[key] = Outbox(destination, secrets)
        return _shared[key]


_living: "weakref.WeakSet[Outbox]" = weakref.WeakSet()


def _after_fork() -> None:
    """Let a forked child begin anew; what is the parent's is closed, which leaves its locks in force."""
    global _sharing  # noqa: PLW0603 - a lock cannot be renewed in place
    # A thread that held the lock is not in the child, and would never release it.
    _sharing = threading.Lock()
    for outbox in list(_living):
        outbox._writer.close()
        if outbox._launcher is not None:
            outbox._launcher.close_inherited()
        outbox._begin()


def _at_exit() -> None:
    """Give delivery a moment: in a container the shipper ends with this process."""
    started = time.monotonic()
    for outbox in list(_living):
        until = started + outbox._policy.exit_timeout
        left = outbox.flush(max(0.0, until - time.monotonic()))
        in_memory = len(outbox._memory)
        lost = in_memory + outbox._not_taken
        outbox._faults.left(outbox.folder, left - in_memory, lost)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
