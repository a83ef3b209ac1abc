"""The last report of a shipper on its destination, in a file, so that every process can show it."""

import json
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ._disk import DISK
from ._files import replace

FILE = "status.json"
OK, WAITING, UNAVAILABLE, UNAUTHORIZED = "ok", "waiting", "unavailable", "unauthorized"
_FAILING = frozenset({UNAVAILABLE, UNAUTHORIZED})


class Status(NamedTuple):
    """How delivery goes.

    Attributes:
        state: `ok`, `waiting` while a send takes long, `unavailable` or `unauthorized`.
        reason: The destination's words for the last two.
        attempts: How many attempts have failed since one succeeded.
        rejected: How many events this shipper saw rejected for good.
        rejection: The destination's words for the last of them.
        expired: How many events this shipper set aside for their age.
        damaged: How many lines could not be read.
        at: When this was written, in seconds of the monotonic clock, which nobody sets.
        boot: The boot that this clock belongs to.
        pid: The process of the shipper.
        since: When the send began that takes long, in seconds since the epoch; 0 if none does.
    """

    state: str = OK
    reason: str = ""
    attempts: int = 0
    rejected: int = 0
    rejection: str = ""
    expired: int = 0
    damaged: int = 0
    at: float = 0.0
    boot: str = ""
    pid: int = 0
    since: float = 0.0


def write(folder: Path, status: Status) -> None:
    """Write a status. What cannot be written is not worth an error."""
    with suppress(OSError):
        replace(folder / FILE, json.dumps(status._asdict()).encode())


def read(folder: Path) -> Status:
    """Read the last status, or return the default if none was written."""
    try:
        noted = json.loads((folder / FILE).read_bytes())
        # Another version may have written more of it.
        return Status(**{key: noted[key] for key in Status._fields if key in noted})
    except (OSError, ValueError, TypeError):
        return Status()


def written_at(folder: Path) -> int:
    """Return a number that changes when the status does; 0 if there is none."""
    try:
        return (folder / FILE).stat().st_mtime_ns
    except OSError:
        return 0


def is_since(status: Status, moment: float) -> bool:
    """Return whether a status is no older than a moment of this boot's monotonic clock."""
    return status.boot == DISK.machine().boot and status.at >= moment


def is_failing(status: Status, since: float) -> bool:
    """Return whether an attempt has failed since a moment, and none has worked after it."""
    return status.state in _FAILING and is_since(status, since)
