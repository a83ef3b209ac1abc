"""The segments of this process: writing, going on to the next, and what of them waits."""

import os
import time
from contextlib import suppress
from pathlib import Path

from ._files import create, spool_of
from ._format import Segment, boot_id, read_header
from ._frames import frame
from ._interface import Destination
from ._measure import size_of, waiting_in
from ._policy import Policy

_MEASURED_FOR = 1.0
_STEP = 1 << 20


class SpoolFull(Exception):  # noqa: N818 - said of the spool
    """The spool has reached its limit and takes no event."""


class Writer:
    """Appends to the spool. The caller holds a reentrant lock over `append`; the rest is safe beside it.

    Args:
        destination: Decides on the folder.
        policy: The limit of the spool, and the size of a segment.
    """

    def __init__(self, destination: Destination, policy: Policy) -> None:
        self._destination = destination
        self._policy = policy
        self._boot = boot_id()
        self._folder: Path | None = None
        self._segment: Segment | None = None
        self._busy = False
        self._written = 0
        self._room = 0
        self._measured_at = float("-inf")
        self._paths: list[Path] = []

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
        segment = self._segment
        if segment is None:
            self._segment = segment = self._open()
            self._written = 0
        stamp = time.monotonic_ns()
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
        if self._written >= self._policy.segment_bytes:
            self.close()
        return stamp

    def _append_aside(self, body: bytes) -> int:
        """Write from a signal handler that interrupts an append: into a segment of its own."""
        segment = self._open()
        try:
            stamp = time.monotonic_ns()
            segment.append(frame(stamp, body))
        finally:
            segment.close()
        return stamp

    def look(self) -> None:
        """Begin a new segment if somebody removed this one: no shipper does while it is written."""
        if self._segment is not None and not self._segment.path.exists():
            self.close()

    def close(self) -> None:
        """Leave the segment to the shipper; a forked child leaves it to its parent."""
        # In this order: a child that is forked in between must not close a number that is free.
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()

    def mark(self) -> list[tuple[Path, int]]:
        """Give what of this process is not delivered: its segments, and where each ends now."""
        found: list[tuple[Path, int]] = []
        for path in list(self._paths):
            try:
                end = path.stat().st_size
            except FileNotFoundError:
                with suppress(ValueError):  # another thread was first
                    self._paths.remove(path)
                continue
            if acknowledged(path) < end:
                found.append((path, end))
        return found

    def waiting(self) -> int:
        """Count the events of this process that wait. It reads all of them, so not for each call."""
        total = 0
        for path, _ in self.mark():
            with suppress(FileNotFoundError):
                total += waiting_in(path)[0]
        return total

    def _open(self) -> Segment:
        if self._folder is None or not self._folder.exists():
            folder = spool_of(self._destination)
            create(folder, self._destination)
            self._folder = folder
        segment = Segment(self._folder, self._boot)
        self._paths.append(segment.path)
        return segment

    def _measure(self) -> int:
        """Look anew at what room the limit leaves; not each time, for it reads a folder."""
        assert self._folder is not None  # noqa: S101 - there is a segment in it
        now = time.monotonic()
        if now > self._measured_at + _MEASURED_FOR or self._room > 0:
            self._measured_at = now
            # Other processes write too, so only a part is taken before the next look.
            self._room = min(self._policy.max_bytes - size_of(self._folder), _STEP)
        return self._room


def acknowledged(path: Path) -> int:
    """Give up to which byte a segment is delivered; all of it if it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 1 << 62
    try:
        return read_header(descriptor).acked
    finally:
        os.close(descriptor)
