"""The events of all processes for one destination, as its shipper takes them out."""

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from ._files import refuse_foreign
from ._format import HEADER_SIZE, acknowledge, boot_id, lines_from, numbered
from ._locks import try_lock
from ._measure import REFUSED, waiting_in
from ._merge import merged
from ._reader import Reader, Record, is_alive

LOCK = "lock"
HURRY = "hurry"
_STRAY_AGE = 3600.0


class Spool:
    """A spool. Whoever takes events out must hold its lock.

    Args:
        folder: The folder of one destination.

    Raises:
        OSError: It cannot be read, or others could have written to it.
    """

    def __init__(self, folder: Path) -> None:
        refuse_foreign(folder)
        self.folder = folder
        self._readers: dict[str, Reader] = {}
        self._synced: dict[str, int] = {}
        self._lock: int | None = None
        self._boot = boot_id()

    def try_lock(self) -> bool:
        """Become the one that takes events out, unless somebody else is."""
        if self._lock is None:
            descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if not try_lock(descriptor):
                os.close(descriptor)
                return False
            self._lock = descriptor
            self._readers.clear()  # somebody else may have delivered since
            self._remove_strays()
        return True

    def unlock(self) -> None:
        """Let somebody else take events out."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def collect(self, limit: int) -> list[Record]:
        """Give the next events, in an order in which nothing stands before what caused it."""
        now = time.monotonic_ns()
        self._look()
        return list(islice(merged(self._readers.values(), self._boot, now), limit))

    def acknowledge(self, records: Sequence[Record]) -> None:
        """Note that events are delivered. Should the disk refuse, they may come twice one day."""
        for source, end in {record.source: record.end for record in records}.items():
            if reader := self._readers.get(source):
                with suppress(OSError):
                    reader.acknowledge(end)
                    # At once: a backlog of many segments would be gone through again and again.
                    if reader.remove_if_done():
                        del self._readers[source]

    def refuse(self, record: Record, reason: str) -> None:
        """Keep an event that the destination will never accept, for a person to look at.

        Raises:
            OSError: It could not be kept, so it must not be acknowledged.
        """
        line = json.dumps({**record.event._asdict(), "reason": reason}).encode() + b"\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self.folder / REFUSED, flags, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, before)
                raise OSError(f"{REFUSED} could be written in part only: the disk is full.")
        finally:
            os.close(descriptor)

    def remove_delivered(self) -> bool:
        """Remove what is done with; tell whether a segment is left."""
        for name, reader in list(self._readers.items()):
            if reader.remove_if_done():
                del self._readers[name]
        return self.is_in_use()

    def is_in_use(self) -> bool:
        """Tell whether there is a segment: there is one for as long as somebody writes, or it waits."""
        return bool(numbered(self.folder))

    def has_writers(self) -> bool:
        """Tell whether a process still writes."""
        return any(self._is_alive(name) for _, name in reversed(numbered(self.folder)))

    def expire(self, seconds: float) -> int:
        """Remove segments without a writer whose last event is older; tell how many events that lost."""
        lost = 0
        for _, name in numbered(self.folder):
            path = self.folder / name
            try:
                old = time.time() - path.stat().st_mtime > seconds
                if old and not self._is_alive(name):
                    lost += waiting_in(path)[0]
                    path.unlink()
                    self._readers.pop(name, None)
            except FileNotFoundError:
                continue
        return lost

    def give_up_all(self) -> int:
        """Count everything as delivered, also what a living process wrote so far; tell how many."""
        lost = 0
        for _, name in numbered(self.folder):
            path = self.folder / name
            lost += waiting_in(path)[0]
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                ends = [HEADER_SIZE, *(end for end, _ in lines_from(descriptor, HEADER_SIZE))]
                acknowledge(descriptor, ends[-1])
            finally:
                os.close(descriptor)
        self._readers.clear()
        self.collect(1)
        self.remove_delivered()
        return lost

    def sync(self) -> None:
        """Force what was written since the last time to the disk, whoever wrote it."""
        before, self._synced = self._synced, {}
        for _, name in numbered(self.folder):
            with suppress(FileNotFoundError):
                path = self.folder / name
                self._synced[name] = size = path.stat().st_size
                if size != before.get(name):
                    _force_to_disk(path)
        if self._synced.keys() - before.keys():
            _force_to_disk(self.folder)  # a new file's name is in its folder

    def damaged(self) -> int:
        """Count the lines of known segments whose checksum is wrong."""
        return sum(reader.damaged for reader in self._readers.values())

    def hurried(self) -> int:
        """Give a number that changes whenever somebody begins to wait for delivery."""
        try:
            return (self.folder / HURRY).stat().st_mtime_ns
        except OSError:
            return 0

    def _is_alive(self, name: str) -> bool:
        try:
            return is_alive(self.folder / name)
        except FileNotFoundError:
            return False

    def _look(self) -> None:
        names = {name for _, name in numbered(self.folder)}
        for name in names - self._readers.keys():
            with suppress(FileNotFoundError):
                self._readers[name] = Reader(self.folder / name)
        for name in self._readers.keys() - names:
            del self._readers[name]

    def _remove_strays(self) -> None:
        """Remove what a process left that died while it made a segment or a note."""
        for path in [*self.folder.glob("*.new"), *self.folder.glob("*.tmp")]:
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _STRAY_AGE:
                    path.unlink()


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # macOS has only the stronger one.
        getattr(os, "fdatasync", os.fsync)(descriptor)
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Tell whether somebody takes events out."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def request_flush(folder: Path) -> None:
    """Tell whoever takes events out that somebody waits.

    Raises:
        OSError: It could not be told; delivery then takes its usual time.
    """
    path = folder / HURRY
    path.touch(mode=0o600)
    os.utime(path)
