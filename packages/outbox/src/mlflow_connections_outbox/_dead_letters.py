"""Rejected events: kept outside of the quota, with the destination's reason, until a person decides."""

import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ._disk import DISK, Disk
from ._files import read
from ._interface import Event

FILE = "dead_letters.jsonl"
"""The file that grows. A full one is renamed to `dead_letters.<number>.jsonl`."""
FILE_1 = "refused.jsonl"
"""The name in format 1."""

_FULL = re.compile(r"dead_letters\.(\d+)\.jsonl")
_LOCK_TRIES = 1000


class DeadLetter(NamedTuple):
    """A rejected event, and the destination's reason."""

    event: Event
    reason: str


def add(folder: Path, event: Event, reason: str, limit: int, disk: Disk = DISK) -> None:
    """Write a dead letter, which survives a power failure when this returns.

    Args:
        folder: The spool.
        event: The event.
        reason: The destination's reason.
        limit: The maximum size of one file, in bytes.
        disk: The file system.

    Raises:
        OSError: It could not be written, so the event must not be acknowledged.
    """
    line = json.dumps({**event._asdict(), "reason": reason}).encode() + b"\n"
    path = folder / FILE
    descriptor = _open_locked(path, disk)
    try:
        before = disk.size(descriptor)
        if before + len(line) > limit and before:
            last = max(_numbers(folder, disk), default=0)
            disk.rename(path, folder / f"dead_letters.{last + 1}.jsonl")
            full, descriptor = descriptor, _open_locked(path, disk)
            disk.close(full)
            before = disk.size(descriptor)
        if before and disk.pread(descriptor, 1, before - 1) != b"\n":
            line = b"\n" + line  # a crash tore the previous line
        if disk.write(descriptor, line) != len(line):
            disk.truncate(descriptor, before)
            raise OSError(f"{path} could be written in part only: the disk is full.")
        disk.sync(descriptor)
        disk.sync_folder(folder)
    finally:
        disk.close(descriptor)


def files(folder: Path, disk: Disk = DISK) -> list[Path]:
    """List the files of a spool that may hold dead letters, oldest first.

    Raises:
        OSError: The folder cannot be read.
    """
    full = (f"dead_letters.{number}.jsonl" for number in sorted(_numbers(folder, disk)))
    return [folder / name for name in (FILE_1, *full, FILE)]


def _numbers(folder: Path, disk: Disk) -> list[int]:
    return [int(match[1]) for name in disk.names(folder) if (match := _FULL.fullmatch(name))]


def count(folder: Path, disk: Disk = DISK) -> int:
    """Count the dead letters of a spool.

    Raises:
        OSError: The folder cannot be read.
    """
    total = 0
    for path in files(folder, disk):
        with suppress(OSError):
            total += _count(path, disk)
    return total


def size(folder: Path, disk: Disk = DISK) -> int:
    """Measure the dead letters of a spool, in bytes.

    Raises:
        OSError: The folder cannot be read.
    """
    total = 0
    for path in files(folder, disk):
        with suppress(OSError):
            total += disk.status(path).size
    return total


def take(path: Path, disk: Disk = DISK) -> tuple[list[DeadLetter], int]:
    """Read the dead letters of one file, and lock it until the descriptor is closed.

    Returns:
        The dead letters, each event once, and the open descriptor.

    Raises:
        OSError: The file is missing or cannot be read.
        ValueError: It is damaged.
    """
    disk.status(path)  # raises if the file is missing; opening would create it
    descriptor = _open_locked(path, disk)
    try:
        found: dict[str, DeadLetter] = {}
        for line in read(path, disk).splitlines():
            try:
                noted: dict[str, Any] = json.loads(line)
                reason = noted.pop("reason")
                event = Event(**noted)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue  # a crash tore it, so its event was not acknowledged either
            # A crash between writing and acknowledging leaves an event twice.
            found[event.id] = DeadLetter(event, reason)
    except BaseException:
        disk.close(descriptor)
        raise
    return list(found.values()), descriptor


def _count(path: Path, disk: Disk) -> int:
    # A crash may have torn a line; the next one then starts after it.
    return sum(line.endswith(b"}") for line in read(path, disk).splitlines())


def _open_locked(path: Path, disk: Disk) -> int:
    """Open and lock a file that others append to, rename or remove."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    for _ in range(_LOCK_TRIES):
        descriptor = disk.open(path, flags, 0o600)
        if disk.lock(descriptor) and disk.is_named(descriptor, path):
            return descriptor
        disk.close(descriptor)
        time.sleep(0.005)
    raise BlockingIOError(f"Another process keeps the lock on {path}.")
