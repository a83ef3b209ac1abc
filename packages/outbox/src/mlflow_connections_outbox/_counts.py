"""The counts of a spool: the events that left it, and those that found no room in it."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ._disk import DISK, Disk
from ._files import read, replace

COUNTS = "counts.json"
NOT_TAKEN = "not_taken"


class Counts(NamedTuple):
    """The events that have left a spool since it was created.

    A shipper that is killed may lose the count of its last second; no event depends on it.

    Attributes:
        delivered: Events that the destination has.
        rejected: Events that the destination rejected permanently.
        expired: Events that were set aside for their age.
        damaged: Lines that could not be read.
    """

    delivered: int = 0
    rejected: int = 0
    expired: int = 0
    damaged: int = 0


def read_counts(folder: Path, disk: Disk = DISK) -> Counts:
    """Read the counts of a spool; zeros if there are none."""
    try:
        noted = json.loads(read(folder / COUNTS, disk))
        # Another version may have written more fields.
        return Counts(**{key: int(noted[key]) for key in Counts._fields if key in noted})
    except (OSError, ValueError, TypeError):
        return Counts()


def write_counts(folder: Path, counts: Counts, disk: Disk = DISK) -> None:
    """Write the counts of a spool.

    Raises:
        OSError: The disk does not take them.
    """
    replace(folder / COUNTS, json.dumps(counts._asdict()).encode(), disk)


def note_not_taken(folder: Path, events: int) -> None:
    """Count events without room on the disk or in memory. A failure to write the count is not worth an error."""
    with suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(folder / NOT_TAKEN, flags, 0o600)
        try:
            os.write(descriptor, b"%d\n" % events)
        finally:
            os.close(descriptor)


def read_not_taken(folder: Path) -> int:
    """Read the number of events without room on the disk or in memory."""
    try:
        return sum(
            int(line) for line in (folder / NOT_TAKEN).read_bytes().split() if line.isdigit()
        )
    except OSError:
        return 0
