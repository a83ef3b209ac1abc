"""The outbox of one destination in this process."""

import atexit
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from mlflow_connections.secrets import mask_uri

from . import _status
from ._counts import note_not_taken
from ._fault_log import FaultLog
from ._files import FOLDER, create, spool_of, state_of
from ._format import encode
from ._interface import Destination, Event, Sink, open_sink
from ._launcher import Launcher
from ._memory import Memory
from ._policy import Policy
from ._reader import acknowledged
from ._spool import request_flush
from ._writer import SpoolFull, Writer

_DISK_TRIED_EVERY = 1.0
_POLL_EVERY = 1_000_000_000  # nanoseconds
_JUST_FAILED = 5.0
_FLUSH_POLLS_EVERY = 0.01
_FLUSH_AGAIN_EVERY = 1.0
_LONGEST_FORK = 1.0
_ROOM = 1 << 16
"""The maximum size of a sink's state, its map of IDs, in bytes."""


class _Process:
    """The part of an outbox that belongs to one process: descriptors, locks, threads and counts.

    A fork holds its locks; the child closes the inherited descriptors and starts with a new object.
    """

    def __init__(self, outbox: "Outbox") -> None:
        # Reentrant: a signal handler may append while it interrupts an append.
        self.lock = threading.RLock()
        self.begun = time.monotonic()
        self.writer = Writer(outbox.destination, outbox._policy)
        self.launcher: Launcher | None = None
        self.held: list[Any] = []
        self.poll_at = 0
        self.seen = 0
        self.unauthorized = False
        self.in_memory = False
        self.disk_tried_at = 0.0
        self.not_taken = 0
        self.not_taken_noted = 0
        self.stalled_at: tuple[Path, int] | None = None
        self.has_insisted = False
        self.temporary_state: Path | None = None
        self.memory = Memory(
            lambda: self._open_sink(outbox),
            outbox._policy,
            lambda: not self.writer.mark(),
            lambda reason: outbox._faults.rejected(reason, 1, "lost, for it was in no file"),
        )

    def hold(self) -> None:
        """Wait until no thread of this process is opening a descriptor, and prevent new ones."""
        self.lock.acquire()
        launcher = [self.launcher.guard] if self.launcher is not None else []
        for lock in (*launcher, self.memory.guard):
            lock.acquire()
        self.held = [self.memory.guard, *launcher, self.lock]

    def release(self) -> None:
        """Let threads continue."""
        for lock in self.held:
            lock.release()
        self.held = []

    def close_inherited(self) -> None:
        """Close the descriptors that a forked child inherited; the parent's locks stay in force."""
        self.writer.close()
        if self.launcher is not None:
            self.launcher.close_inherited()
        self.temporary_state = None  # the parent removes it

    def _open_sink(self, outbox: "Outbox") -> Sink:
        return open_sink(outbox.destination, outbox._secrets, self.make_temporary_state())

    def make_temporary_state(self) -> Path:
        """Return the folder in which the sink of events in memory keeps its state; `remove` removes it."""
        with self.lock:
            if self.temporary_state is None:
                self.temporary_state = _temporary_folder()
            return self.temporary_state

    def remove_temporary_state(self) -> None:
        """Remove that folder. It is needed until the last event is sent, so no finalizer does it."""
        folder, self.temporary_state = self.temporary_state, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _temporary_folder() -> Path:
    """Create a writable temporary folder: the default one may be on the full disk."""
    prefix = "mlflow-connections-outbox-"
    for parent in (None, "/dev/shm"):  # noqa: S108 - random name, accessible only to this user
        with suppress(OSError):
            folder = Path(mkdtemp(prefix=prefix, dir=parent))
            try:
                (folder / "room").write_bytes(bytes(_ROOM))
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            (folder / "room").unlink()
            return folder
    return Path(mkdtemp(prefix=prefix))


class Outbox:
    """Keeps events on disk until their destination has them. Safe for threads, fork and spawn.

    Use one per destination and process: `shared_outbox` returns it. It lives until the process
    ends, or `close`.

    Args:
        destination: The destination of the events.
        secrets: Environment variables that the sink sees and the disk never does.
        policy: Limits and timings; by default those that the environment sets.
        on_outage: Called instead of a warning when the destination takes no events, with True and
            the reason, and when it takes them again, with False. Must not raise or take long.

    Raises:
        ValueError: The destination's URL contains credentials, which would be on the disk.
    """

    def __init__(
        self,
        destination: Destination,
        secrets: Mapping[str, str] | None = None,
        policy: Policy | None = None,
        on_outage: Callable[[bool, str], None] | None = None,
    ) -> None:
        if mask_uri(destination.url) != destination.url:
            raise ValueError(
                f"The URL {mask_uri(destination.url)} of the destination '{destination.name}' "
                "holds credentials: pass them as secrets."
            )
        wrong: list[str] = []
        if policy is None:
            policy, wrong = Policy.read()
        self.destination = destination
        self._secrets = dict(secrets or {})
        self._policy = policy
        self._faults = FaultLog(destination, policy, on_outage)
        for sentence in wrong:
            self._faults.wrong_setting(sentence)
        self._process = _Process(self)
        _living.add(self)

    @property
    def folder(self) -> Path | None:
        """The folder of this process's events, once there are any on the disk."""
        return self._process.writer.folder

    @property
    def state(self) -> Path:
        """The folder in which the sink keeps its state; created if necessary.

        Raises:
            OSError: It cannot be created.
        """
        folder = spool_of(self.destination)
        create(folder, self.destination)
        return state_of(folder)

    @property
    def memory_state(self) -> Path:
        """The folder in which the sink keeps its state while events are sent from memory, until this process ends."""
        return self._process.make_temporary_state()

    @property
    def is_delivered(self) -> bool:
        """Whether the destination has everything that this process appended; costs a few system calls."""
        process = self._process
        return not process.writer.mark() and not process.memory

    def append(self, event: Event) -> None:
        """Keep an event: it is on the disk when this returns. Never raises, whatever fails."""
        try:
            body = encode(event)
            process = self._process
            with process.lock:
                if process.in_memory and not self._may_use_disk(process):
                    # After the events in memory, to keep the order.
                    self._append_to_memory(process, body)
                    return
                writer = process.writer
                try:
                    stamp = writer.append(body)
                except Exception as error:  # noqa: BLE001 - a defect must not lose the event
                    self._append_without_disk(process, body, error)
                    return
                if writer.has_news:
                    self._report(writer)
                # Poll inline: Python 3.12 warns when a process with threads forks.
                if stamp >= process.poll_at:
                    process.poll_at = stamp + _POLL_EVERY
                    self._poll(process)
        except Exception as error:  # noqa: BLE001 - user code must not fail because of a second destination
            self._faults.not_kept(f"Keeping an event ({event.kind}) for", error)

    def flush(self, timeout: float, *, insist: bool = False) -> int:
        """Wait, for a limited time, until everything that this process appended is delivered.

        Returns at once if waiting is known to be pointless: the destination has just failed, or an
        earlier wait failed and it has accepted nothing since. Never raises.

        Args:
            timeout: Seconds to wait at most.
            insist: Wait while the destination fails, too, and retry every second.

        Returns:
            The number of events of this process that still wait.
        """
        try:
            return self._flush(self._process, timeout, insist=insist)
        except Exception as error:  # noqa: BLE001 - as in append
            self._faults.not_kept("Waiting for", error)
            return len(self._process.memory)

    def close(self, timeout: float = 0.0) -> int:
        """Flush, and leave the rest to the shipper. A later append opens the outbox again.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            The number of events of this process that still wait.
        """
        left = self.flush(timeout)
        with self._process.lock:
            self._process.writer.close()
        return left

    def _may_use_disk(self, process: _Process) -> bool:
        """Return whether everything in memory is delivered, and the disk may be used again."""
        if process.memory or time.monotonic() < process.disk_tried_at + _DISK_TRIED_EVERY:
            return False
        process.in_memory = False
        return True

    def _append_without_disk(self, process: _Process, body: bytes, error: Exception) -> None:
        """Keep in memory an event that the disk did not take."""
        process.disk_tried_at = time.monotonic()
        self._append_to_memory(process, body)
        if isinstance(error, SpoolFull):
            self._faults.no_room(process.writer.folder)
            self._poll(process)
        else:
            self._faults.no_disk(error)

    def _report(self, writer: Writer) -> None:
        writer.has_news = False
        if writer.sync_error is not None:
            self._faults.no_sync(writer.sync_error)
        if writer.removed:
            self._faults.removed(writer.folder, writer.removed)
            writer.removed = 0
        if writer.overflows:
            self._faults.full(writer.folder, writer.waiting)
        else:
            self._faults.full_no_more()

    def _append_to_memory(self, process: _Process, body: bytes) -> None:
        process.in_memory = True
        if not process.memory.append(body):
            process.not_taken += 1
            self._faults.no_memory(len(process.memory))

    def _poll(self, process: _Process) -> None:
        """Ensure that there is a shipper, and warn of faults in its report."""
        writer = process.writer
        folder = writer.folder
        if folder is None:
            return
        if process.launcher is None:
            process.launcher = Launcher(folder, self.destination, self._policy, self._secrets)
        written = _status.written_at(folder)
        if written != process.seen:
            process.seen = written
            status = _status.read(folder)
            process.unauthorized = status.state == _status.UNAUTHORIZED
            # An earlier status belongs to the shipper of an earlier process.
            if _status.is_since(status, process.begun):
                self._faults.status(folder, status, writer.waiting)
        process.launcher.ensure_soon(process.unauthorized)

    def _flush(self, process: _Process, timeout: float, *, insist: bool = False) -> int:
        insist = insist and not process.has_insisted  # the end of a process may call this twice
        writer, memory = process.writer, process.memory
        if self._policy.shipper == "none":
            return writer.waiting() + len(memory)
        with process.lock:
            writer.look()
        mark = writer.mark()
        self._request_flush(process)
        try:
            self._wait(process, mark, timeout, insist=insist)
        except KeyboardInterrupt:
            # The end of the process is not to wait for the same events again.
            process.stalled_at, process.has_insisted = _first(_left(mark)), True
            raise
        self._poll(process)
        self._note_not_taken(process)
        return writer.waiting() + len(memory)

    def _wait(
        self, process: _Process, mark: list[tuple[Path, int]], timeout: float, *, insist: bool
    ) -> None:
        """Wait until everything up to a mark is delivered, or it makes no sense to wait."""
        called = requested = time.monotonic()
        folder, memory = process.writer.folder, process.memory
        while mark or memory:
            mark = _left(mark)
            position = _first(mark)
            if position is not None and position == process.stalled_at and not insist:
                break
            if time.monotonic() >= called + timeout:
                process.stalled_at = position if timeout > 0 else process.stalled_at
                process.has_insisted |= insist
                break
            status = _status.read(folder) if folder and mark else memory.status
            if _status.is_failing(status, max(process.begun, called - _JUST_FAILED)):
                if not insist:
                    break
                if time.monotonic() >= requested + _FLUSH_AGAIN_EVERY:
                    requested = time.monotonic()
                    self._request_flush(process)
            self._poll(process)
            time.sleep(_FLUSH_POLLS_EVERY)

    def _request_flush(self, process: _Process) -> None:
        folder = process.writer.folder
        if folder is not None and process.writer.mark():
            with suppress(OSError):  # delivery then takes its usual time
                request_flush(folder)
        process.memory.request_flush()

    def _note_not_taken(self, process: _Process) -> None:
        new = process.not_taken - process.not_taken_noted
        if new and process.writer.folder is not None:
            process.not_taken_noted += new
            note_not_taken(process.writer.folder, new)


class _Shared:
    """The outboxes of this process by destination and secrets."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may fork.
        self.lock = threading.RLock()
        self.outboxes: dict[
            tuple[str | None, Destination, tuple[tuple[str, str], ...]], Outbox
        ] = {}


_shared = _Shared()
_living: "weakref.WeakSet[Outbox]" = weakref.WeakSet()
_held: list[_Process] = []


def shared_outbox(destination: Destination, secrets: Mapping[str, str]) -> Outbox:
    """Return the outbox of this process for a destination and secrets, created at the first call.

    It is another one if the variable that names the folder of all outboxes has another value. The secrets keep their current values: variables may be restored when a connection ends, and its
    remaining events are delivered later.

    Args:
        destination: The destination of the events.
        secrets: Environment variables that the sink sees and the disk never does.

    Raises:
        ValueError: The URL of the destination contains credentials.
    """
    key = (os.environ.get(FOLDER), destination, tuple(sorted(secrets.items())))
    with _shared.lock:
        if key not in _shared.outboxes:
            _shared.outboxes[key] = Outbox(destination, secrets)
        return _shared.outboxes[key]


def outbox_in_force(opened: Callable[[], Outbox]) -> Callable[[], Outbox]:
    """Return a function that returns the outbox in the folder in force, at the cost of one look at a variable.

    A log that lives longer than a connection calls it for each event: the variable that names the folder of
    all outboxes may change, as in a notebook or a test.

    Args:
        opened: Returns the outbox; called now, and whenever the variable has changed.
    """
    known = os.environ.get(FOLDER), opened()

    def in_force() -> Outbox:
        nonlocal known
        folder = os.environ.get(FOLDER)
        if folder != known[0]:
            known = folder, opened()
        return known[1]

    return in_force


def _before_fork() -> None:
    """Wait until no thread is opening a descriptor: a child would keep it open, and its lock."""
    for outbox in list(_living):
        if launcher := outbox._process.launcher:
            launcher.wait_for_helper(_LONGEST_FORK)
    _shared.lock.acquire()
    for outbox in list(_living):
        outbox._process.hold()
        _held.append(outbox._process)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().release()
    _shared.lock.release()


def _after_fork_in_child() -> None:
    """Start with a new object, and close the parent's descriptors, which leaves its locks in force."""
    _held.clear()
    _shared.lock = threading.RLock()
    for outbox in list(_living):
        inherited, outbox._process = outbox._process, _Process(outbox)
        inherited.close_inherited()


def _left(mark: list[tuple[Path, int]]) -> list[tuple[Path, int]]:
    """Return the segments of a mark that are not delivered up to it."""
    return [(path, end) for path, end in mark if acknowledged(path) < end]


def _first(mark: list[tuple[Path, int]]) -> tuple[Path, int] | None:
    """Return the position up to which the first segment of a mark is delivered."""
    return (mark[0][0], acknowledged(mark[0][0])) if mark else None


def _at_exit() -> None:
    """Wait a moment for delivery: in a container the shipper ends with this process. Ctrl-C ends the wait."""
    started = time.monotonic()
    for outbox in list(_living):
        process = outbox._process
        if outbox._policy.shipper == "none":
            outbox._note_not_taken(process)
            continue
        until = started + outbox._policy.exit_timeout
        timeout = max(0.0, until - time.monotonic())
        try:
            left = outbox.flush(timeout, insist=outbox._policy.exit_insists)
        except KeyboardInterrupt:
            started = float("-inf")
            left = outbox.flush(0)
        in_memory = len(process.memory)
        lost = in_memory + process.not_taken
        outbox._faults.left(outbox.folder, left - in_memory, lost)
        process.remove_temporary_state()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
atexit.register(_at_exit)
