"""Reading segments: a single one, and many in one causal order. No file stays open, because there may be thousands."""

import heapq
import os
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from itertools import accumulate, repeat
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from ._disk import DISK, Disk
from ._format import (
    ACKED_AT,
    Header,
    SegmentName,
    acked_field,
    is_whole,
    parse,
    parse_block,
    parse_header,
    segment_name,
)
from ._interface import Event

_CHUNK = 1 << 16
_FOREVER = 1 << 63
_HEAD = 1 << 12  # enough for a header, and for the first line after a damaged one


class Record(NamedTuple):
    """A waiting event and its position.

    Attributes:
        stamp: Orders it among the events of its boot.
        end: The position after it, in bytes.
        source: The name of the segment.
        event: The event.
        size: The size of its line in bytes.
    """

    stamp: int
    end: int
    source: str
    event: Event
    size: int = 0


def read_header(descriptor: int, disk: Disk = DISK) -> Header:
    """Read the header of an open segment."""
    header = parse_header(disk.pread(descriptor, _HEAD, 0))
    if header.acked > header.size and disk.pread(descriptor, 1, header.acked - 1) != b"\n":
        # A power failure lost delivered data, which may come twice.
        header = header._replace(acked=header.size)
    return header


SIZE: Callable[[Record], int] = itemgetter(Record._fields.index("size"))
_new_event = partial(tuple.__new__, Event)
_new_record = partial(tuple.__new__, Record)


class Reader:
    """Reads a segment from the end of the delivered part, also while its owner writes.

    Attributes:
        path: The segment.
        name: Its name.
        header: Its header when it was opened.
        damaged: The number of lines with a wrong checksum, which were skipped.
    """

    def __init__(self, path: Path, disk: Disk = DISK) -> None:
        self.path = path
        self.name = path.name
        self.damaged = 0
        self._disk = disk
        name = segment_name(path.name) or SegmentName(0, path.stem, "")
        self._stem = name.stem
        descriptor = disk.open(path, os.O_RDONLY | os.O_CLOEXEC, 0o600)
        try:
            self.header = read_header(descriptor, disk)
        finally:
            disk.close(descriptor)
        self._read_to = self.header.acked
        self._read_through = -1
        self._read_at = 0
        self._stamp = 0
        self._decoded: deque[Record] = deque()
        self._given = 0

    def peek(self, now: int = _FOREVER) -> Record | None:
        """Return the next record, reading on if necessary, or None if there is none.

        Args:
            now: Nanoseconds of the monotonic clock. Records that were written later may be missed.
        """
        if not self._decoded:
            if self._read_through >= 0 and self._read_at >= now:
                return None  # its end has been reached since then
            if not self._read_on():
                return None
        return self._decoded[0]

    def take(self, until: int, limit: int, into: deque[Record]) -> int:
        """Move records to a queue, at least the one that `peek` returned, and return their size in bytes.

        Args:
            until: The other records must have an earlier stamp.
            limit: The maximum number of records.
            into: The queue.
        """
        decoded = self._decoded
        before = len(into)
        if decoded[-1].stamp < until and len(decoded) <= limit:
            size = sum(map(SIZE, decoded))
            into.extend(decoded)
            decoded.clear()
        else:
            size = decoded[0].size
            into.append(decoded.popleft())
            most = before + limit
            while decoded and decoded[0].stamp < until and len(into) < most:
                size += decoded[0].size
                into.append(decoded.popleft())
        self._given += len(into) - before
        return size

    def acknowledge(self, end: int, count: int) -> bool:
        """Record that everything before a byte is delivered, and remove the segment if it is complete.

        Args:
            end: The byte after the last record.
            count: The number of records, of those that `pop` returned.

        Returns:
            Whether the segment was removed.

        Raises:
            OSError: It could not be recorded.
        """
        self._given -= count
        if self._read_through >= 0 and self.remove_if_done():
            return True
        descriptor = self._disk.open(self.path, os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            # Written in place, which works on a full disk.
            self._disk.pwrite(descriptor, acked_field(end, self.header.version), ACKED_AT)
        finally:
            self._disk.close(descriptor)
        return False

    def remove_if_done(self) -> bool:
        """Remove the segment if its owner is gone and everything in it is delivered.

        Returns:
            Whether it is gone.
        """
        if self._given or self._decoded:
            return False
        try:
            descriptor = self._disk.open(self.path, os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return True
        try:
            # Lock before measuring: the owner may have written just before it ended.
            if not self._disk.lock(descriptor):
                return False
            if self._disk.size(descriptor) != self._read_through:
                return False
            self._disk.unlink(self.path)
            return True
        finally:
            self._disk.close(descriptor)

    def _read_on(self) -> bool:
        """Decode the next events, and return whether there are any."""
        try:
            descriptor = self._disk.open(self.path, os.O_RDONLY | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return False  # a person removed it
        try:
            self._read_at = self._disk.monotonic_ns()
            while not self._decoded:
                size = self._disk.size(descriptor)
                block = self._whole_lines(descriptor)
                if not block:
                    self._read_through = size
                    return False
                self._decode(block)
                self._read_to += len(block)
                self._read_through = size if size == self._read_to else -1
        finally:
            self._disk.close(descriptor)
        return True

    def _decode(self, block: bytes) -> None:
        lines = parse_block(block, self._stamp)
        if lines is None:
            self._decode_one_by_one(block)
            return
        # In columns, because a Python step per event would take as long as the JSON.
        ends = list(accumulate(lines.sizes, initial=self._read_to))
        ids = [f"{self._stem}:{begin}" for begin in ends[:-1]]
        events = map(_new_event, zip(*zip(*lines.fields, strict=True), ids, strict=True))
        records = zip(
            *(lines.stamps, ends[1:], repeat(self.name), events, lines.sizes), strict=False
        )
        self._decoded.extend(map(_new_record, records))
        self._stamp = lines.stamps[-1]

    def _decode_one_by_one(self, block: bytes) -> None:
        end = self._read_to
        for line in block[:-1].split(b"\n"):
            begin, end = end, end + len(line) + 1
            found = parse(line, f"{self._stem}:{begin}")
            if found is None:
                self.damaged += 1
                continue
            # An append in a signal handler can overtake the append that it interrupts.
            self._stamp = max(self._stamp, found[0])
            self._decoded.append(Record(self._stamp, end, self.name, found[1], end - begin))

    def _whole_lines(self, descriptor: int) -> bytes:
        chunk = _CHUNK
        while True:
            block = self._disk.pread(descriptor, chunk, self._read_to)
            cut = block.rfind(b"\n") + 1
            if cut or len(block) < chunk:
                return block[:cut]  # the line after it is still being written, or is torn
            chunk *= 4  # one event longer than a block


class Merge:
    """Merges segments by stamp, opening each only when its first event can be next.

    An event is stamped and written before its append returns. Every cause of an event stamped
    before `now` is therefore on the disk by `now`, whichever process wrote it; an event with a
    later stamp stays for the next merge.

    Args:
        readers: The segments, listed after `now` was read from the clock.
        boot: The current boot. The events of another boot come before or after all of it, according
            to the numbers of their first segments.
        now: Nanoseconds of the monotonic clock.
    """

    def __init__(self, readers: Collection[Reader], boot: str, now: int) -> None:
        self._boot = boot
        self._now = now
        ranks: dict[str, int] = {}
        for reader in sorted(readers, key=lambda r: r.name):
            ranks.setdefault(reader.header.boot, len(ranks))
        self._upcoming = sorted(
            ((ranks[r.header.boot], r.header.created, r.name, r) for r in readers), reverse=True
        )
        # The name breaks ties between equal stamps, so that readers are never compared.
        self._heap: list[tuple[int, int, str, Reader]] = []

    def fill(self, records: deque[Record], limit: int, room: int = _FOREVER) -> bool:
        """Add the next records to a queue until it has enough of them, or enough bytes are added.

        Returns:
            Whether it has; if not, no other record is stamped before `now`.
        """
        heap, upcoming = self._heap, self._upcoming
        while len(records) < limit and (room > 0 or not records):
            while upcoming and (not heap or upcoming[-1][:2] <= heap[0][:2]):
                rank, _, name, reader = upcoming.pop()
                if (stamp := self._stamp_of(reader)) is not None:
                    heapq.heappush(heap, (rank, stamp, name, reader))
            if not heap:
                return False
            rank, _, name, reader = heap[0]
            # Up to the next record of another segment, records need no comparison.
            rivals = [each[:2] for each in (*heap[1:3], *upcoming[-1:])]
            until = min((stamp for other, stamp in rivals if other == rank), default=_FOREVER)
            if reader.header.boot == self._boot:
                until = min(until, self._now)
            room -= reader.take(until, limit - len(records), records)
            if (stamp := self._stamp_of(reader)) is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (rank, stamp, name, reader))
        return True

    def _stamp_of(self, reader: Reader) -> int | None:
        record = reader.peek(self._now)
        if record is None or (record.stamp >= self._now and reader.header.boot == self._boot):
            return None
        return record.stamp


class Waiting(NamedTuple):
    """The waiting events of a segment.

    Attributes:
        events: Their number.
        bytes: Their size.
        damaged: The number of damaged lines.
        oldest: The time of the first, in milliseconds since the epoch; None if nothing waits.
    """

    events: int
    bytes: int
    damaged: int
    oldest: int | None


def waiting_in(path: Path, disk: Disk = DISK, *, check: bool = True) -> Waiting:
    """Count the waiting events of a segment; only the first is decoded.

    Args:
        path: The segment.
        disk: The file system.
        check: Whether to distinguish damaged lines from events, which takes longer.

    Raises:
        OSError: The segment is gone.
    """
    descriptor = disk.open(path, os.O_RDONLY | os.O_CLOEXEC, 0o600)
    try:
        position = read_header(descriptor, disk).acked
        events = size = damaged = 0
        rest = b""
        oldest: int | None = None
        while block := disk.pread(descriptor, 1 << 18, position):
            position += len(block)
            size += len(block)
            *lines, rest = (rest + block).split(b"\n")
            if oldest is None:
                oldest = next((found[1].at for line in lines if (found := parse(line, ""))), None)
            bad = sum(not is_whole(line) for line in lines) if check else 0
            events += len(lines) - bad
            damaged += bad
        return Waiting(events, size, damaged, oldest)
    finally:
        disk.close(descriptor)


class LineCount(NamedTuple):
    """A count of the lines between two positions in a segment, which can be continued."""

    begin: int
    end: int
    lines: int


def count_waiting_lines(
    path: Path, before: LineCount | None = None, disk: Disk = DISK
) -> LineCount:
    """Count the waiting lines of a segment, without checking for damage.

    Args:
        path: The segment.
        before: The last count, so that nothing is read twice.
        disk: The file system.

    Raises:
        OSError: The segment is gone.
    """
    descriptor = disk.open(path, os.O_RDONLY | os.O_CLOEXEC, 0o600)
    try:
        acked = read_header(descriptor, disk).acked
        if before is None or not before.begin <= acked <= before.end:
            before = LineCount(acked, acked, 0)
        delivered, _ = _newlines(descriptor, before.begin, acked, disk)
        new, end = _newlines(descriptor, before.end, _FOREVER, disk)
        return LineCount(acked, end, before.lines - delivered + new)
    finally:
        disk.close(descriptor)


def _newlines(descriptor: int, begin: int, end: int, disk: Disk) -> tuple[int, int]:
    """Count newlines up to a byte or the end of a file, and return that position as well."""
    found = 0
    while begin < end and (block := disk.pread(descriptor, min(end - begin, 1 << 18), begin)):
        found += block.count(b"\n")
        begin += len(block)
    return found, begin


def acknowledged(path: Path, disk: Disk = DISK) -> int:
    """Read the position up to which a segment is delivered; its size if it is gone.

    Raises:
        OSError: It cannot be read.
    """
    try:
        descriptor = disk.open(path, os.O_RDONLY | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return 1 << 62
    try:
        return read_header(descriptor, disk).acked
    finally:
        disk.close(descriptor)


def is_alive(path: Path, disk: Disk = DISK) -> bool:
    """Return whether the owner of a segment still writes it, according to its lock.

    Raises:
        OSError: The segment is gone.
    """
    descriptor = disk.open(path, os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        return not disk.lock(descriptor)
    finally:
        disk.close(descriptor)
