"""Bring back events that were set aside: old segments, and dead letters."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from . import _dead_letters
from ._disk import DISK, Disk
from ._files import ASIDE, segments_in
from ._format import encode, frame
from ._interface import Event
from ._reader import waiting_in
from ._writer import Segment


def retry(folder: Path, disk: Disk = DISK) -> int:
    """Bring back events that were set aside: old ones in their place, dead letters as the newest.

    Events keep their IDs. Whatever fails in between, none is lost; some may be delivered twice.

    Returns:
        The number of events that wait again.

    Raises:
        OSError: The disk does not take them.
    """
    total = 0
    aside = folder / ASIDE
    with suppress(FileNotFoundError):
        for _, path in sorted(segments_in(aside, disk)):
            total += waiting_in(path, disk).events
            disk.touch(path)  # otherwise it would be set aside again at once
            disk.rename(path, folder / path.name)
    for path in _dead_letters.files(folder, disk):
        try:
            letters, descriptor = _dead_letters.take(path, disk)
        except FileNotFoundError:
            continue
        try:
            if letters:
                write_again(folder, [letter.event for letter in letters], disk)
            disk.unlink(path)
            total += len(letters)
        finally:
            disk.close(descriptor)
    return total


def write_again(folder: Path, events: Sequence[Event], disk: Disk) -> None:
    """Write events that are in another place already as the newest ones of a spool.

    Raises:
        OSError: The disk does not take them; none of them is written.
    """
    segment = Segment(folder, disk, durable=True)
    try:
        for event in events:
            segment.append(frame(disk.monotonic_ns(), encode(event)))
        segment.sync()
    except OSError:
        # The events are still in their other place.
        with suppress(OSError):
            disk.unlink(segment.path)
        raise
    finally:
        segment.close()
