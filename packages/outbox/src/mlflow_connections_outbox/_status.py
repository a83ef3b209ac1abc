"""What a shipper last said of its destination, in a file, so that every process can tell of it."""

import json
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ._files import replace
from ._format import boot_id

FILE = "status.json"
OK, UNAVAILABLE, UNAUTHORIZED = "ok", "unavailable", "unauthorized"


class Status(NamedTuple):
    """How delivery goes.

    Attributes:
        state: `ok`, `unavailable` or `unauthorized`.
        reason: The destination's words for the last two.
        attempts: How many attempts have failed since one succeeded.
        refused: How many events this shipper saw refused for good.
        refusal: The destination's words for the last of them.
        expired: How many events this shipper gave up for their age.
        damaged: How many lines it could not read.
        at: When it said so, in seconds of the monotonic clock, which nobody sets.
        boot: The boot that this clock belongs to.
        pid: The shipper's process.
    """

    state: str = OK
    reason: str = ""
    attempts: int = 0
    refused: int = 0
    refusal: str = ""
    expired: int = 0
    damaged: int = 0
    at: float = 0.0
    boot: str = ""
    pid: int = 0


def write(folder: Path, status: Status) -> None:
    """Leave a status for others. What cannot be written is not worth an error."""
    with suppress(OSError):
        replace(folder / FILE, json.dumps(status._asdict()).encode())


def read(folder: Path) -> Status:
    """Give the last status, or a good one if there is none."""
    try:
        return Status(**json.loads((folder / FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return Status()


def written_at(folder: Path) -> int:
    """Give a number that changes when the status does; 0 if there is none."""
    try:
        return (folder / FILE).stat().st_mtime_ns
    except OSError:
        return 0


def is_since(status: Status, moment: float) -> bool:
    """Tell whether a status is no older than a moment of this boot's monotonic clock."""
    return status.boot == boot_id() and status.at >= moment


def is_failing(status: Status, since: float) -> bool:
    """Tell whether an attempt has failed since a moment, and none has worked after it."""
    return status.state != OK and is_since(status, since)
