"""The last report of a shipper on its destination, in a file that every process can read."""

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
    """The state of the delivery.

    Attributes:
        state: `ok`, `waiting` while a send takes long, `unavailable` or `unauthorized`.
        reason: The destination's reason for the last two.
        attempts: The number of failed attempts since the last success.
        rejected: The number of events that this shipper had permanently rejected.
        rejection: The destination's reason for the last of them.
        expired: The number of events that this shipper set aside for their age.
        damaged: The number of unreadable lines.
        at: The time of writing, in seconds of the monotonic clock, which cannot be set.
        boot: The boot that this clock belongs to.
        pid: The process of the shipper.
        since: The beginning of a long send, in seconds since the epoch; 0 if there is none.
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
    """Write a status. A failure to write it is not worth an error."""
    with suppress(OSError):
        replace(folder / FILE, json.dumps(status._asdict()).encode())


def read(folder: Path) -> Status:
    """Read the last status, or return the default if none was written."""
    try:
        noted = json.loads((folder / FILE).read_bytes())
        # Another version may have written more fields.
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
    """Return whether a status is no older than a time of this boot's monotonic clock."""
    return status.boot == DISK.machine().boot and status.at >= moment


def is_failing(status: Status, since: float) -> bool:
    """Return whether an attempt has failed since a time, without a later success."""
    return status.state in _FAILING and is_since(status, since)
