"""Writing: the segments of this process, each with a lock that says that its owner lives."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from ._disk import DISK, Disk
from ._files import create, segments, spool_of
from ._format import HEADER_SIZE, SegmentName, frame, header, segment_name
from ._interface import Destination
from ._policy import Policy
from ._reader import acknowledged, waiting_in

_MEASURED_FOR = 1.0
_STEP = 1 << 20
_LOOK_EVERY = 1_000_000_000  # nanoseconds
_CHECK_EVERY = 1_000_000
_RECENT = 10_000_000


class SpoolFull(Exception):  # noqa: N818 - said of the spool
    """The spool has reached its limit and takes no event."""


class Segment:
    """A segment while its owner writes it.

    Args:
        folder: The spool.
        disk: The file system.
        durable: Whether the segment survives a power cut from now on.

    Raises:
        OSError: It cannot be created, locked or written.
    """

    def __init__(self, folder: Path, disk: Disk = DISK, durable: bool = False) -> None:
        if not disk.is_supported():
            raise OSError("This operating system has no file locks that suit an outbox.")
        self._disk = disk
        names = filter(None, map(segment_name, disk.names(folder)))
        number = max((name.number for name in names), default=0) + 1
        self.path = folder / str(SegmentName(number, secrets.token_hex(8), ""))
        # Under another name until it is locked: a shipper must never take it for an orphan.
        unfinished = self.path.with_suffix(".new")
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self.descriptor = disk.open(unfinished, flags, 0o600)
        try:
            check_locks(unfinished, self.descriptor, disk)
            machine = disk.machine()
            created = disk.monotonic_ns()
            self.append(header(HEADER_SIZE, created, machine.boot, machine.host, os.getpid()))
            if durable:
                self.sync()
            disk.rename(unfinished, self.path)
            if durable:
                disk.sync_folder(folder)
        except BaseException:
            self.close()
            for path in (unfinished, self.path):
                with suppress(OSError):
                    disk.unlink(path)
            raise

    def append(self, line: bytes) -> None:
        """Write one line with one call of the operating system.

        Raises:
            OSError: The disk took nothing, or a part: then nothing may follow in this segment.
        """
        if self._disk.write(self.descriptor, line) != len(line):
            raise OSError(f"{self.path} could be written in part only: the disk is full.")

    def is_removed(self) -> bool:
        """Return whether somebody removed the segment, so that what was just written is nowhere."""
        return not self._disk.is_linked(self.descriptor)

    def sync(self) -> None:
        """Force the segment to the disk.

        Raises:
            OSError: The disk reports an error.
        """
        self._disk.sync(self.descriptor)

    def close(self) -> None:
        """Leave the segment to the shipper."""
        # Clear the attribute before closing: a child forked in between must not use a free number.
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            self._disk.close(descriptor)


def check_locks(path: Path, descriptor: int, disk: Disk) -> None:
    """Lock an open file, and make sure that locks on this file system exclude anybody.

    Raises:
        OSError: They do not, or another opening holds the lock.
    """
    if not disk.lock(descriptor):
        raise BlockingIOError(f"Another process holds the lock on {path}.")
    second = disk.open(path, os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        if disk.lock(second):
            raise OSError(
                f"Locks on the file system of {path.parent} exclude nobody, so an outbox on it "
                "could lose events."
            )
    finally:
        disk.close(second)


class Writer:
    """Appends to the spool. The caller holds a reentrant lock over `append`; the rest is safe beside it.

    Args:
        destination: Decides on the folder.
        policy: The limit of the spool, the size of a segment, and whether every event is forced to
            the disk.
        disk: The file system.

    Attributes:
        removed: The number of events in segments that somebody removed.
        sync_error: The last error of the disk for an event that it was to keep for good.
    """

    def __init__(self, destination: Destination, policy: Policy, disk: Disk = DISK) -> None:
        self._destination = destination
        self._policy = policy
        self._disk = disk
        self._folder: Path | None = None
        self._segment: Segment | None = None
        self._busy = False
        self._written = 0
        self._room = 0
        self._measured_at = float("-inf")
        self._look_at = 0
        self._paths: list[Path] = []
        self._events = 0
        self._check_at = 0
        # Events since the last look whether the segment is still there: a look each costs a call.
        self._unchecked: list[bytes] = []
        self._segment_bytes = policy.segment_bytes
        self._sync_events = policy.sync_events
        self.removed = 0
        self.sync_error: OSError | None = None

    @property
    def folder(self) -> Path | None:
        """The spool, once something was written to it."""
        return self._folder

    def append(self, body: bytes) -> int:
        """Write an encoded event.

        Returns:
            Its stamp: nanoseconds of the monotonic clock.

        Raises:
            SpoolFull: The policy's limit is reached.
            OSError: The disk does not take it. Nothing of it counts.
        """
        if self._busy:
            return self._append_aside(body)
        self._busy = True
        try:
            return self._append(body)
        finally:
            self._busy = False

    def _append(self, body: bytes) -> int:
        stamp = self._disk.monotonic_ns()
        if stamp >= self._look_at:
            self._look_at = stamp + _LOOK_EVERY
            self.look()
        segment = self._write(body, stamp)
        is_full = self._written >= self._segment_bytes
        if stamp < self._check_at and not is_full and not self._sync_events:
            self._unchecked.append(body)
            return stamp
        if segment.is_removed():
            segment = self._write_again(body)
        self._unchecked.clear()
        self._check_at = stamp + _CHECK_EVERY
        if self._sync_events:
            self._sync(segment)
        if is_full:
            self.close()
        return stamp

    def _write(self, body: bytes, stamp: int) -> Segment:
        segment = self._segment
        if segment is None:
            self._segment = segment = self._open()
            self._written = self._events = 0
            # The segment is stamped when it is created, and no event may be older.
            stamp = self._disk.monotonic_ns()
        line = frame(stamp, body)
        if self._room < len(line) and self._measure() < len(line):
            raise SpoolFull
        try:
            segment.append(line)
        except OSError:
            self.close()  # a torn line must be the last of its segment
            raise
        self._room -= len(line)
        self._written += len(line)
        self._events += 1
        return segment

    def _write_again(self, body: bytes) -> Segment:
        """Write an event again whose segment was removed, and those of the last milliseconds before it.

        Events of earlier times were on the disk, and somebody removed them.
        """
        is_recent = self._disk.monotonic_ns() < self._check_at + _RECENT
        bodies = [*self._unchecked, body] if is_recent else [body]
        while True:
            self.removed += max(0, self._events - len(bodies))
            self.close()
            for each in bodies[:-1]:
                self._write(each, self._disk.monotonic_ns())
            segment = self._write(body, self._disk.monotonic_ns())
            if not segment.is_removed():
                return segment

    def _sync(self, segment: Segment) -> None:
        try:
            segment.sync()
        except OSError as error:
            # The event is written, so sending it again from memory would double it.
            self.sync_error = error
            self.close()

    def _append_aside(self, body: bytes) -> int:
        """Write from a signal handler that interrupts an append: into a segment of its own."""
        segment = self._open()
        try:
            stamp = self._disk.monotonic_ns()
            segment.append(frame(stamp, body))
            if self._policy.sync_events:
                segment.sync()
        finally:
            segment.close()
        return stamp

    def look(self) -> None:
        """Begin a new segment if somebody removed or adopted this one."""
        segment = self._segment
        if segment is None or self._disk.is_named(segment.descriptor, segment.path):
            return
        if not segment.is_removed():
            self.close()  # adopted: what is in it is read there
            return
        if self._unchecked and self._disk.monotonic_ns() < self._check_at + _RECENT:
            self._write_again(self._unchecked.pop())
        else:
            self.removed += self._events
            self.close()
        self._unchecked.clear()

    def close(self) -> None:
        """Leave the segment to the shipper; a forked child leaves it to its parent."""
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()

    def mark(self) -> list[tuple[Path, int]]:
        """Return the segments of this process that are not delivered, and where each ends now."""
        found: list[tuple[Path, int]] = []
        for path in list(self._paths):
            end = self._end_of(path)
            if end is None:
                with suppress(ValueError):  # another thread was first
                    self._paths.remove(path)
            elif acknowledged(path, self._disk) < end:
                found.append((path, end))
        return found

    def _end_of(self, path: Path) -> int | None:
        try:
            return self._disk.status(path).size
        except FileNotFoundError:
            return None

    def waiting(self) -> int:
        """Count the events of this process that wait. It reads all of them, so not for each call."""
        total = 0
        for path, _ in self.mark():
            with suppress(FileNotFoundError):
                total += waiting_in(path, self._disk).events
        return total

    def _open(self) -> Segment:
        folder = spool_of(self._destination)
        create(folder, self._destination)
        self._folder = folder
        segment = Segment(folder, self._disk, durable=self._policy.sync_events)
        self._paths.append(segment.path)
        return segment

    def _measure(self) -> int:
        """Measure the room that the limit leaves; not for each event, for it reads a folder."""
        assert self._folder is not None  # noqa: S101 - there is a segment in it
        now = self._disk.monotonic_ns() / 1e9
        if now > self._measured_at + _MEASURED_FOR or self._room > 0:
            self._measured_at = now
            # Other processes write too, so only a part is taken before the next measurement.
            self._room = min(
                self._policy.max_bytes - waiting_bytes(self._folder, self._disk), _STEP
            )
        return self._room


def waiting_bytes(folder: Path, disk: Disk = DISK) -> int:
    """Measure the segments of a spool, in bytes.

    Raises:
        OSError: The folder is gone.
    """
    total = 0
    for _, path in segments(folder, disk):
        with suppress(FileNotFoundError):
            total += disk.status(path).size
    return total
