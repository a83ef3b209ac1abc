"""Writing: the segments of this process, each with a lock that shows that its owner lives."""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import NoReturn
from zlib import crc32

from ._disk import DISK, Disk
from ._files import OVERFLOW, create, segments, segments_in, spool_of
from ._format import HEADER_SIZE, SegmentName, frame, header
from ._interface import Destination
from ._policy import Policy
from ._reader import LineCount, acknowledged, count_waiting_lines

_STEP = 1 << 20
_LOOK_EVERY = 1_000_000_000  # nanoseconds
_CHECK_EVERY = 1_000_000
_RECENT = 10_000_000
_IN_PART = "could be written in part only: the disk is full."


class SpoolFull(Exception):  # noqa: N818 - describes the spool
    """The spool has reached its limit, and the disk has no room for more."""


class Segment:
    """A segment while its owner writes it.

    Args:
        folder: The spool, or its folder for events beyond the limit.
        disk: The file system.
        durable: Whether the segment must survive a power failure from now on.

    Raises:
        OSError: It cannot be created, locked or written.
    """

    def __init__(self, folder: Path, disk: Disk = DISK, durable: bool = False) -> None:
        if not disk.is_supported():
            raise OSError("This operating system has no file locks that suit an outbox.")
        self._disk = disk
        spool = folder.parent if folder.name == OVERFLOW else folder
        number = max((name.number for name, _ in segments(spool, disk)), default=0) + 1
        self.path = folder / str(SegmentName(number, secrets.token_hex(8), ""))
        # Under another name until it is locked: a shipper must never mistake it for an orphan.
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
        """Append one line with one system call.

        Raises:
            OSError: The disk took only a part or nothing; nothing may follow in this segment.
        """
        if self._disk.write(self.descriptor, line) != len(line):
            raise OSError(f"{self.path} {_IN_PART}")

    def is_removed(self) -> bool:
        """Return whether the segment was removed, so that the last write is lost."""
        return not self._disk.is_linked(self.descriptor)

    def sync(self) -> None:
        """Sync the segment to the disk.

        Raises:
            OSError: The disk reports an error.
        """
        self._disk.sync(self.descriptor)

    def close(self) -> None:
        """Leave the segment to the shipper."""
        # Clear the attribute before closing: a child forked in between must not use a reused
        # descriptor.
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            self._disk.close(descriptor)


def check_locks(path: Path, descriptor: int, disk: Disk) -> None:
    """Lock an open file, and check that locks on this file system are exclusive.

    Raises:
        OSError: They are not, or another opening holds the lock.
    """
    if not disk.lock(descriptor):
        raise BlockingIOError(f"Another process holds the lock on {path}.")
    second = disk.open(path, os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        if disk.lock(second):
            raise OSError(
                f"Locks on the file system of {path.parent} do not exclude other processes, "
                "so an outbox on it could lose events."
            )
    finally:
        disk.close(second)


class Writer:
    """Appends to the spool. The caller holds a reentrant lock during `append`; the rest is thread-safe.

    Args:
        destination: Determines the folder.
        policy: The limit of the spool, the size of a segment, and whether every event is synced to
            the disk.
        disk: The file system.

    Attributes:
        removed: The number of events in segments that somebody removed.
        sync_error: The disk's last error for an event that had to be synced.
        overflows: Whether the spool has reached its limit, so that events go beyond it.
        has_news: Whether one of these three has changed; the caller resets it.
    """

    def __init__(self, destination: Destination, policy: Policy, disk: Disk = DISK) -> None:
        self._destination = destination
        self._policy = policy
        self._disk = disk
        self._clock = disk.monotonic_ns
        self._put = disk.write
        self._folder: Path | None = None
        self._segment: Segment | None = None
        self._descriptor = -1
        self._busy = False
        # Until this stamp, and for this many bytes, an append is one write and nothing else.
        self._quick_until = 0
        self._room = 0
        self._granted = 0  # `_room` at the time when it was granted
        self._quota = 0  # bytes until the limit of the spool is measured again
        self._written = 0
        self._look_at = 0
        self._check_at = 0
        self._paths: list[Path] = []
        self._counted: dict[Path, LineCount] = {}
        self._events = 0
        # Events since the last check that the segment still exists, which costs a system call.
        self._unchecked: list[bytes] = []
        self.removed = 0
        self.sync_error: OSError | None = None
        self.overflows = False
        self.has_news = False

    @property
    def folder(self) -> Path | None:
        """The spool, once something was written to it."""
        return self._folder

    def append(self, body: bytes) -> int:
        """Write an encoded event.

        Returns:
            Its stamp: nanoseconds of the monotonic clock.

        Raises:
            SpoolFull: The policy's limit is reached, and the disk has no room beyond it.
            OSError: The disk does not take it. No part of it counts.
        """
        if self._busy:
            return self._append_aside(body)
        self._busy = True
        try:
            stamp = self._clock()
            if stamp < self._quick_until:
                # Inlined from `frame`, to save the call.
                content = b"%d %b" % (stamp, body)
                line = b"%08x %b\n" % (crc32(content), content)
                size = len(line)
                if size <= self._room:
                    self._room -= size
                    if self._put(self._descriptor, line) == size:
                        self._unchecked.append(body)
                        return stamp
                    self._fail_partially()
            self._append(stamp, body)
            return stamp  # noqa: TRY300 - the fast path returns above
        except OSError:
            self.close()  # a torn line must be the last of its segment
            raise
        finally:
            self._busy = False

    def _append(self, stamp: int, body: bytes) -> None:
        used = self._granted - self._room
        self._quota -= used
        self._written += used
        self._granted = self._room = self._quick_until = 0
        if stamp >= self._look_at:
            self._look_at = stamp + _LOOK_EVERY
            self.look()
        segment = self._write(body)
        if segment.is_removed():
            segment = self._write_again(body)
        else:
            self._events += len(self._unchecked) + 1
        self._unchecked.clear()
        self._check_at = stamp + _CHECK_EVERY
        if self._policy.sync_events:
            self._sync(segment)
        left = self._policy.segment_bytes - self._written
        if left <= 0:
            self.close()
        elif not self._policy.sync_events:
            self._granted = self._room = max(0, min(self._quota, left))
            self._quick_until = min(self._check_at, self._look_at)

    def _write(self, body: bytes) -> Segment:
        line = frame(self._clock(), body)
        segment = self._segment
        if segment is None or len(line) > self._quota:
            segment = self._segment_for(len(line))
            # A segment is stamped at its creation, and no event may be older.
            line = frame(self._clock(), body)
        segment.append(line)
        self._quota -= len(line)
        self._written += len(line)
        return segment

    def _write_again(self, body: bytes) -> Segment:
        """Write an event again whose segment was removed, and those of the preceding milliseconds.

        Earlier events were on the disk, and somebody removed them.
        """
        is_recent = self._clock() < self._check_at + _RECENT
        bodies = [*self._unchecked, body] if is_recent else [body]
        self._note_removed(self._events + len(self._unchecked) + 1 - len(bodies))
        while True:
            self.close()
            for each in bodies[:-1]:
                self._write(each)
            segment = self._write(body)
            if not segment.is_removed():
                self._events = len(bodies)
                return segment

    def _note_removed(self, events: int) -> None:
        if events > 0:
            self.removed += events
            self.has_news = True

    def _sync(self, segment: Segment) -> None:
        try:
            segment.sync()
        except OSError as error:
            # The event is written, so sending it from memory as well would duplicate it.
            self.sync_error = error
            self.has_news = True
            self.close()

    def _append_aside(self, body: bytes) -> int:
        """Write from a signal handler that interrupts an append, to a separate segment."""
        segment = self._open(self._create_folder())
        try:
            stamp = self._clock()
            segment.append(frame(stamp, body))
            if self._policy.sync_events:
                segment.sync()
        finally:
            segment.close()
        return stamp

    def look(self) -> None:
        """Start a new segment if this one was removed or adopted."""
        segment = self._segment
        if segment is None:
            return
        if self.overflows:
            self._quota = 0  # there may be room again
        if self._disk.is_named(segment.descriptor, segment.path):
            return
        if not segment.is_removed():
            self.close()  # adopted: its events are read by the adopter
            return
        if self._unchecked and self._clock() < self._check_at + _RECENT:
            self._write_again(self._unchecked.pop())
        else:
            self._note_removed(self._events + len(self._unchecked))
            self.close()
        self._unchecked.clear()

    def close(self) -> None:
        """Leave the segment to the shipper; a forked child leaves it to its parent."""
        # Done first: a signal handler that appends now must not take the fast path.
        self._quick_until = 0
        segment, self._segment = self._segment, None
        self._descriptor = -1
        self._granted = self._room = self._written = self._events = 0
        if segment is not None:
            segment.close()

    def mark(self) -> list[tuple[Path, int]]:
        """Return the undelivered segments of this process, with their current ends."""
        found: list[tuple[Path, int]] = []
        for path in list(self._paths):
            end = self._end_of(path)
            if end is None:
                self._counted.pop(path, None)
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
        """Count the waiting events of this process, reading each of them only once."""
        total = 0
        for path, _ in self.mark():
            with suppress(FileNotFoundError):
                found = count_waiting_lines(path, self._counted.get(path), self._disk)
                self._counted[path] = found
                total += found.lines
        return total

    def _fail_partially(self) -> NoReturn:
        raise OSError(f"{self._segment.path if self._segment else None} {_IN_PART}")

    def _create_folder(self) -> Path:
        folder = spool_of(self._destination)
        create(folder, self._destination)
        self._folder = folder
        return folder

    def _segment_for(self, size: int) -> Segment:
        """Return the segment for so many bytes: in the spool, or beyond its limit."""
        folder = place = self._create_folder()
        # Other processes write too, so only a part is taken before the next measurement.
        step = max(_STEP, size)
        self._quota = min(self._room_within(folder, size), step)
        overflows = self._quota < size
        if overflows:
            place = folder / OVERFLOW
            self._quota = min(self._disk.free(folder) - self._policy.min_free, step)
            if self._quota < size:
                self._quota = 0
                raise SpoolFull
            self._disk.make_folder(place)
            if self._policy.sync_events:
                self._disk.sync_folder(folder)
        if overflows != self.overflows:
            self.overflows = overflows
            self.has_news = True
        segment = self._segment
        if segment is None or segment.path.parent != place:
            self.close()
            self._segment = segment = self._open(place)
            self._descriptor = segment.descriptor
        return segment

    def _open(self, place: Path) -> Segment:
        segment = Segment(place, self._disk, durable=self._policy.sync_events)
        self._paths.append(segment.path)
        return segment

    def _room_within(self, folder: Path, size: int) -> int:
        """Return the bytes that the limit of the spool leaves; exact only near the limit."""
        room = self._policy.max_bytes - file_bytes(folder, self._disk)
        if room >= size:
            return room
        return self._policy.max_bytes - waiting_bytes(folder, self._disk)


def file_bytes(folder: Path, disk: Disk = DISK) -> int:
    """Measure the segments of one folder, in bytes, including their delivered parts.

    Raises:
        OSError: The folder is gone.
    """
    total = 0
    for _, path in segments_in(folder, disk):
        with suppress(FileNotFoundError):
            total += disk.status(path).size
    return total


def waiting_bytes(folder: Path, disk: Disk = DISK) -> int:
    """Measure the waiting parts of the segments in one folder, in bytes.

    Raises:
        OSError: The folder is gone.
    """
    total = 0
    for _, path in segments_in(folder, disk):
        with suppress(FileNotFoundError):
            total += max(0, disk.status(path).size - acknowledged(path, disk))
    return total
