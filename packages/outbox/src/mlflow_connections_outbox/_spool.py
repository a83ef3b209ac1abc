"""The spool as its shipper uses it: take events, acknowledge them, set them aside, count them."""

import os
import threading
import zlib
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from . import _dead_letters
from ._counts import Counts, read_counts, write_counts
from ._disk import DISK, Disk
from ._files import ASIDE, OVERFLOW, refuse_foreign, segments
from ._format import ACKED_AT, Header, SegmentName, acked_field
from ._policy import Policy
from ._reader import SIZE, Merge, Reader, Record, is_alive, read_header, waiting_in
from ._retry import write_again
from ._writer import check_locks, file_bytes

LOCK = "lock"
FLUSH = "flush"
END = "end"
_STRAY_AGE = 3600.0
_SOURCE = itemgetter(Record._fields.index("source"))


class Spool:
    """A spool. A process that takes events must hold its lock.

    Args:
        folder: The folder of one destination.
        policy: The limit of set-aside events, and the time after which another machine counts as
            silent.
        disk: The file system.
        adopt: Whether to take over other machines' segments at once.
        guard: Held while the lock is taken, so that no fork copies an unregistered lock.

    Attributes:
        foreign: The number of segments that belong to other machines, which may still write them.

    Raises:
        OSError: It cannot be read, or others could have written to it.
    """

    def __init__(
        self,
        folder: Path,
        policy: Policy | None = None,
        disk: Disk = DISK,
        adopt: bool = False,
        guard: AbstractContextManager[Any] = nullcontext(),  # noqa: B008 - it has no state
    ) -> None:
        if disk is DISK:
            refuse_foreign(folder)
        self.folder = folder
        self.foreign = 0
        self._policy = policy or Policy()
        self._disk = disk
        self._adopt = adopt
        self._guard = guard
        self._machine = disk.machine()
        self._trusts_locks = disk.sees_other_machines(folder)
        self._readers: dict[str, Reader] = {}
        self._pending: deque[Record] = deque()
        self._merge = Merge((), "", 0)
        self._left_alone: dict[str, Header] = {}
        self._synced: dict[Path, int] = {}
        self._lock: int | None = None
        # One thread reads ahead while another delivers.
        self._reading = threading.RLock()
        self._counts = self._saved = Counts()

    # ----- the lock

    def try_lock(self) -> bool:
        """Become the process that takes events, unless another one is.

        Raises:
            OSError: Locks on this file system do not exclude other processes.
        """
        if self._lock is not None:
            return True
        with self._guard:
            path = self.folder / LOCK
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = self._disk.open(path, flags, 0o600)
            try:
                check_locks(path, descriptor, self._disk)
            except BlockingIOError:
                self._disk.close(descriptor)
                return False
            except BaseException:
                self._disk.close(descriptor)
                raise
            self._lock = descriptor
        self._forget()  # another process may have delivered in the meantime
        self._counts = self._saved = read_counts(self.folder, self._disk)
        self._remove_strays()
        return True

    def unlock(self) -> None:
        """Let another process take events."""
        if self._lock is not None:
            self.save_counts()
            descriptor, self._lock = self._lock, None
            self._disk.close(descriptor)

    def close_inherited(self) -> None:
        """Close the lock in a forked child; it stays in force for the parent."""
        if self._lock is not None:
            descriptor, self._lock = self._lock, None
            self._disk.close(descriptor)

    # ----- taking events out

    def collect(self, limit: int) -> list[Record]:
        """Read the next events, in an order in which no event precedes its cause.

        The same ones are returned again until they are acknowledged.
        """
        with self._reading:
            pending = self._pending
            room = self._policy.batch_bytes - sum(map(SIZE, pending))
            if not self._merge.fill(pending, limit, room):
                # The rest of the last listing is not sufficient: read the clock, then list again.
                now = self._disk.monotonic_ns()
                self._list()
                self._merge = Merge(self._readers.values(), self._machine.boot, now)
                self._merge.fill(pending, limit, room)
            return list(islice(pending, limit))

    def read_ahead(self, limit: int) -> None:
        """Read the events for the next call of `collect`, while another thread waits for the destination."""
        with self._reading:
            room = 2 * self._policy.batch_bytes - sum(map(SIZE, self._pending))
            self._merge.fill(self._pending, limit, room)

    def acknowledge(self, records: Sequence[Record], rejected: int = 0) -> None:
        """Record that the first events that `collect` returned are delivered.

        If the disk refuses, they may be delivered twice one day.

        Args:
            records: The events, which must be the first ones.
            rejected: The number of dead letters among them.
        """
        ends = {record.source: record.end for record in records}
        counts = Counter(map(_SOURCE, records))
        with self._reading:
            for _ in records:
                self._pending.popleft()
            for source, end in ends.items():
                if reader := self._readers.get(source):
                    with suppress(OSError):
                        # Removed at once: otherwise a backlog of many segments would be searched
                        # over and over.
                        if reader.acknowledge(end, counts[source]):
                            self._removed(source)
        self._count(delivered=len(records) - rejected)

    def reject(self, record: Record, reason: str) -> None:
        """Keep an event that the destination will never accept, for a person to check.

        Raises:
            OSError: It could not be kept, so it must not be acknowledged.
        """
        limit = self._policy.dead_letter_file
        _dead_letters.add(self.folder, record.event, reason, limit, self._disk)
        self._count(rejected=1)

    def postpone(self, record: Record) -> None:
        """Queue an event again as the newest one; it survives a power failure when this returns.

        Raises:
            OSError: The disk does not take it, so it must not be acknowledged.
        """
        write_again(self.folder, [record.event], self._disk)

    def remove_delivered(self) -> bool:
        """Remove completed segments, and return whether one of this machine's is left."""
        with self._reading:
            for name, reader in list(self._readers.items()):
                if reader.remove_if_done():
                    self._removed(name)
        return self.is_in_use()

    def is_in_use(self) -> bool:
        """Return whether there is a segment: there is one while a process writes, or events wait."""
        return any(
            path.name not in self._left_alone for _, path in segments(self.folder, self._disk)
        )

    def has_writers(self) -> bool:
        """Return whether a living process holds any segment."""
        return any(self._is_alive(path) for _, path in reversed(segments(self.folder, self._disk)))

    def expire(self, seconds: float) -> int:
        """Set aside segments without a writer whose last event is too old.

        Nothing is dropped: `retry` brings them back. Beyond the limit they stay.

        Returns:
            The number of events that were set aside.
        """
        total = 0
        aside = self.folder / ASIDE
        for _, path in segments(self.folder, self._disk):
            try:
                status = self._disk.status(path)
                if self._disk.time() - status.mtime <= seconds or path.name in self._left_alone:
                    continue
                if self._is_alive(path):
                    continue
                self._disk.make_folder(aside)
                if file_bytes(aside, self._disk) + status.size > self._policy.max_aside:
                    break
                found = waiting_in(path, self._disk).events
                self._force_to_disk(path)  # `sync` checks only waiting events
                self._disk.rename(path, aside / path.name)
            except OSError:
                continue  # removed in the meantime, or it stays
            total += found
        if total:
            with suppress(OSError):
                for changed in (aside, self.folder):
                    self._disk.sync_folder(changed)
            self._forget()  # the part that was already read
            self._count(expired=total)
        return total

    def drop_waiting(self) -> int:
        """Count everything as delivered, also a living process's events so far; return their number."""
        total = 0
        for _, path in segments(self.folder, self._disk):
            total += waiting_in(path, self._disk).events
            descriptor = self._disk.open(path, os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                size = self._disk.size(descriptor)
                while size and self._disk.pread(descriptor, 1, size - 1) != b"\n":
                    size -= 1  # a torn end
                if size:
                    version = read_header(descriptor, self._disk).version
                    self._disk.pwrite(descriptor, acked_field(size, version), ACKED_AT)
            finally:
                self._disk.close(descriptor)
        self._forget()
        self.collect(1)
        self.remove_delivered()
        return total

    # ----- the disk

    def sync(self) -> None:
        """Sync all data written since the last call to the disk, whichever process wrote it."""
        before, self._synced = self._synced, {}
        for _, path in segments(self.folder, self._disk):
            with suppress(FileNotFoundError):
                self._synced[path] = size = self._disk.status(path).size
                if size != before.get(path):
                    self._force_to_disk(path)
        # A new file's name is in its folder, whose own name is in the spool.
        for changed in {path.parent for path in self._synced.keys() - before.keys()}:
            self._disk.sync_folder(changed)
            if changed != self.folder:
                self._disk.sync_folder(self.folder)

    def _force_to_disk(self, path: Path) -> None:
        descriptor = self._disk.open(path, os.O_RDONLY | os.O_CLOEXEC, 0o600)
        try:
            self._disk.sync(descriptor)
        finally:
            self._disk.close(descriptor)

    def damaged(self) -> int:
        """Return the number of lines with a wrong checksum, found by this shipper or an earlier one."""
        return self._counts.damaged + sum(reader.damaged for reader in self._readers.values())

    def save_counts(self) -> None:
        """Write the counts. A failure to write them is not worth an error."""
        if self._counts != self._saved and self._lock is not None:
            self._saved = self._counts
            with suppress(OSError):
                write_counts(self.folder, self._counts, self._disk)

    def flush_requested(self) -> float:
        """Return a number that changes whenever a process begins to wait for delivery."""
        try:
            return self._disk.status(self.folder / FLUSH).mtime
        except OSError:
            return 0

    def end_requested(self) -> float:
        """Return a number that changes whenever a command asks the shipper to end."""
        try:
            return self._disk.status(self.folder / END).mtime
        except OSError:
            return 0

    # ----- inside

    def _count(self, **more: int) -> None:
        now = self._counts
        self._counts = now._replace(**{key: getattr(now, key) + n for key, n in more.items()})

    def _removed(self, name: str) -> None:
        reader = self._readers.pop(name)
        self._count(damaged=reader.damaged)

    def _forget(self) -> None:
        with self._reading:
            self._readers.clear()
            self._pending.clear()
            self._merge = Merge((), "", 0)

    def _is_alive(self, path: Path) -> bool:
        if path.name in self._left_alone:
            return True
        try:
            return is_alive(path, self._disk)
        except FileNotFoundError:
            return False

    def _list(self) -> None:
        """Open new segments that this process may use, and forget removed ones."""
        names = set()
        for name, path in segments(self.folder, self._disk):
            if path.name in self._readers:
                names.add(path.name)
                continue
            with suppress(FileNotFoundError):
                if reader := self._claim(name, path):
                    names.add(reader.name)
                    self._readers.setdefault(reader.name, reader)
        for gone in self._readers.keys() - names:
            del self._readers[gone]
        self.foreign = len(self._left_alone)

    def _claim(self, name: SegmentName, path: Path) -> Reader | None:
        """Open a segment that this machine may use, or return None if another may still write it.

        A lock counts only where it is visible: between processes of one boot, and on file systems
        that show all machines' locks. Elsewhere a segment belongs to the machine in its header or
        its name, until that has been silent for long.
        """
        reader = None
        if (header := self._left_alone.get(path.name)) is None:
            reader = Reader(path, self._disk)
            header = reader.header
        ours = not name.adopter and header.host == self._machine.host
        if (
            self._trusts_locks
            or (header.boot == self._machine.boot and not name.adopter)
            or (ours or name.adopter == self._tag)
        ):
            return reader or Reader(path, self._disk)
        status = self._disk.status(path)
        if not self._adopt and self._disk.time() - status.mtime < self._policy.silence:
            self._left_alone[path.name] = header
            return None
        adopted = path.with_name(str(name._replace(adopter=self._tag)))
        # Renaming is atomic everywhere: only one of two machines succeeds.
        self._disk.rename(path, adopted)
        self._disk.touch(adopted)  # its silence starts again
        self._left_alone.pop(path.name, None)
        return Reader(adopted, self._disk)

    @property
    def _tag(self) -> str:
        return f"{zlib.crc32(self._machine.host.encode()):08x}"

    def _remove_strays(self) -> None:
        """Remove files of a process that died while it created a segment or a note."""
        for folder in (self.folder, self.folder / OVERFLOW):
            with suppress(OSError):
                for name in self._disk.names(folder):
                    if name.endswith((".new", ".tmp")) and self._is_stray(folder / name):
                        self._disk.unlink(folder / name)

    def _is_stray(self, path: Path) -> bool:
        return self._disk.time() - self._disk.status(path).mtime > _STRAY_AGE


def is_locked(folder: Path) -> bool:
    """Return whether a process takes events."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not DISK.lock(descriptor)
    finally:
        os.close(descriptor)


def request_flush(folder: Path) -> None:
    """Ask the process that takes events not to wait for the batch to fill.

    Raises:
        OSError: The request failed; delivery then takes its usual time.
    """
    DISK.touch(folder / FLUSH)


def request_end(folder: Path) -> None:
    """Ask the shipper to end after the batch that it is sending, unless a process still writes.

    Raises:
        OSError: The request failed.
    """
    DISK.touch(folder / END)
