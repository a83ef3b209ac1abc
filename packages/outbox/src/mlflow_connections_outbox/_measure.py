"""Counting what is in a spool, without its lock and without a change."""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ._format import HEADER_SIZE, numbered, read_header
from ._reader import is_alive

REFUSED = "dead_letters.jsonl"


class Waiting(NamedTuple):
    """What is in a spool.

    Attributes:
        events: How many events wait.
        bytes: Their size.
        writers: How many segments a living process still writes.
        oldest: When the oldest segment that has something waiting was last written, in seconds
            since the epoch; None if nothing waits.
        refused: How many events the destination refused for good.
    """

    events: int = 0
    bytes: int = 0
    writers: int = 0
    oldest: float | None = None
    refused: int = 0


def measure(folder: Path) -> Waiting:
    """Count what is in a spool.

    Raises:
        OSError: The folder is gone.
    """
    events = size = writers = 0
    oldest: float | None = None
    for _, name in numbered(folder):
        path = folder / name
        try:
            found, length = waiting_in(path)
            writers += is_alive(path)
            written = path.stat().st_mtime
        except FileNotFoundError:
            continue  # delivered meanwhile
        events, size = events + found, size + length
        if found:
            oldest = written if oldest is None else min(oldest, written)
    return Waiting(events, size, writers, oldest, _refused(folder))


def waiting_in(path: Path) -> tuple[int, int]:
    """Count what waits in a segment without decoding it: events, and bytes.

    Raises:
        OSError: The segment is gone.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        position = max(read_header(descriptor).acked, HEADER_SIZE)
        events = size = 0
        while block := os.pread(descriptor, 1 << 18, position):
            events += block.count(b"\n")
            size += len(block)
            position += len(block)
        return events, size
    finally:
        os.close(descriptor)


def _refused(folder: Path) -> int:
    try:
        return (folder / REFUSED).read_bytes().count(b"\n")
    except OSError:
        return 0


def size_of(folder: Path) -> int:
    """Give the bytes that a spool takes on the disk.

    Raises:
        OSError: The folder is gone.
    """
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                total += entry.stat().st_size
    return total
