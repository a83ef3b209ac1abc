"""One segment as the shipper reads it. No file stays open, for there may be thousands of them."""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ._format import HEADER_SIZE, acknowledge, lines_from, read_header
from ._frames import parse
from ._interface import Event
from ._locks import try_lock

_BLOCK = 512
"""How many events are decoded at once."""


class Record(NamedTuple):
    """An event that waits, and where it stands.

    Attributes:
        stamp: Orders it among the events of its boot.
        end: The byte behind it.
        source: The name of the segment.
        event: The event.
    """

    stamp: int
    end: int
    source: str
    event: Event


class Reader:
    """Reads a segment from where delivery stopped, also while its owner goes on writing.

    Attributes:
        path: The segment.
        name: Its name.
        header: What it said when it was opened.
        damaged: How many lines had a wrong checksum and were passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self._prefix = path.stem
        self.damaged = 0
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.header = read_header(descriptor)
        finally:
            os.close(descriptor)
        self._read_to = max(self.header.acked, HEADER_SIZE)
        self._read_through = 0
        self._stamp = 0
        self._records: deque[Record] = deque()

    def records(self) -> Iterator[Record]:
        """Give what waits, in order, reading on as far as it is asked for."""
        given = 0
        while given < len(self._records) or self._read_on():
            # By index: nothing is taken away before it was delivered.
            yield self._records[given]
            given += 1

    def acknowledge(self, end: int) -> None:
        """Note that all before a byte is delivered.

        Raises:
            OSError: It could not be written down; it counts in this process all the same.
        """
        while self._records and self._records[0].end <= end:
            self._records.popleft()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            acknowledge(descriptor, end)
        finally:
            os.close(descriptor)

    def remove_if_done(self) -> bool:
        """Remove the segment if its owner is gone and everything in it is delivered.

        Returns:
            Whether it is gone.
        """
        if self._records:
            return False
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            # In this order: the owner may have written just before it ended.
            if not try_lock(descriptor) or os.fstat(descriptor).st_size != self._read_through:
                return False
            self.path.unlink()
            return True
        finally:
            os.close(descriptor)

    def _read_on(self) -> bool:
        """Decode the next events; tell whether there are any."""
        before = len(self._records)
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False  # given up by a person
        try:
            size = os.fstat(descriptor).st_size
            for end, line in lines_from(descriptor, self._read_to):
                parsed = parse(line, f"{self._prefix}:{self._read_to}")
                self._read_to = end
                if parsed is None:
                    self.damaged += 1
                    continue
                # A signal handler that appends can overtake the append that it interrupts.
                self._stamp = max(self._stamp, parsed[0])
                self._records.append(Record(self._stamp, end, self.name, parsed[1]))
                if len(self._records) - before >= _BLOCK:
                    break
            else:
                self._read_through = size
        finally:
            os.close(descriptor)
        return len(self._records) > before


def is_alive(path: Path) -> bool:
    """Tell whether the owner of a segment still writes it.

    Raises:
        OSError: The segment is gone.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)
