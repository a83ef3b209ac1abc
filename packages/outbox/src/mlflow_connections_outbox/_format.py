"""The file that one process appends to: a header that the shipper writes into, then lines."""

import os
import re
import secrets
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ._locks import try_lock

SUFFIX = ".seg"

_PREFIX = b"outbox/1 acked="
_HEADER = re.compile(
    rb"outbox/1 acked=(?P<acked>\d{16}) born=(?P<created>\d{20}) boot=(?P<boot>[0-9a-f-]{36}) "
    rb"pid=(?P<pid>\d{10})\n"
)
HEADER_SIZE = len(_PREFIX) + 16 + len(" born= boot= pid=\n") + 20 + 36 + 10


class Header(NamedTuple):
    """What a segment says of itself.

    Attributes:
        acked: Up to which byte the destination has everything.
        created: The monotonic clock, in nanoseconds, before its first event was stamped.
        boot: The boot of the machine that this clock belongs to; empty if the header is damaged.
        pid: The process that wrote it.
    """

    acked: int
    created: int
    boot: str
    pid: int


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Name the current boot: the monotonic clocks of two boots cannot be compared."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        text = ""
    if len(text) == 36:
        return text
    # Other systems: the minute of the boot. Should the clock be set, one boot has two names, and
    # its segments are then ordered by their numbers alone.
    return f"{int((time.time() - time.monotonic()) // 60):036x}"


def read_header(descriptor: int) -> Header:
    """Read the header; a damaged one (a power cut) reads as nothing delivered, by nobody."""
    content = os.pread(descriptor, HEADER_SIZE, 0)
    match = _HEADER.fullmatch(content)
    if match is None:
        return Header(HEADER_SIZE, 0, "", 0)
    acked = int(match["acked"])
    if acked > HEADER_SIZE and os.pread(descriptor, 1, acked - 1) != b"\n":
        acked = HEADER_SIZE  # a power cut took what was delivered; it may come twice
    return Header(acked, int(match["created"]), match["boot"].decode(), int(match["pid"]))


def acknowledge(descriptor: int, end: int) -> None:
    """Note that everything before a byte is delivered; in place, so that a full disk allows it."""
    os.pwrite(descriptor, b"%016d" % end, len(_PREFIX))


def numbered(folder: Path) -> list[tuple[int, str]]:
    """Give the segments of a folder by number, that is in the order in which they were begun."""
    found: list[tuple[int, str]] = []
    for name in os.listdir(folder):  # noqa: PTH208 - names are all that is needed, and it is hot
        number, _, rest = name.partition("-")
        if rest.endswith(SUFFIX) and number.isdigit():
            found.append((int(number), name))
    return sorted(found)


def lines_from(descriptor: int, position: int, chunk: int = 1 << 16) -> Iterator[tuple[int, bytes]]:
    """Give each whole line from a byte on, with the byte where the next one begins."""
    while block := os.pread(descriptor, chunk, position):
        cut = block.rfind(b"\n") + 1
        if not cut:
            if len(block) < chunk:
                return  # the last line is still being written, or is torn
            chunk *= 2  # one event longer than a block
            continue
        for line in block[: cut - 1].split(b"\n"):
            position += len(line) + 1
            yield position, line


class Segment:
    """A segment while its owner writes it. The lock on it says that the owner lives.

    Args:
        folder: The spool.
        boot: What `boot_id` gave.

    Raises:
        OSError: It cannot be created, locked or written.
    """

    def __init__(self, folder: Path, boot: str) -> None:
        last = numbered(folder)[-1:]
        number = last[0][0] + 1 if last else 1
        self.path = folder / f"{number:08d}-{secrets.token_hex(8)}{SUFFIX}"
        # Under another name until it is locked: a shipper must never take it for an orphan.
        unfinished = self.path.with_suffix(".new")
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self.descriptor = os.open(unfinished, flags, 0o600)
        try:
            try_lock(self.descriptor)  # nobody else knows its name yet
            self.append(
                b"%b%016d born=%020d boot=%b pid=%010d\n"
                % (_PREFIX, HEADER_SIZE, time.monotonic_ns(), boot.encode(), os.getpid())
            )
            unfinished.rename(self.path)
        except BaseException:
            os.close(self.descriptor)
            unfinished.unlink(missing_ok=True)
            raise

    def append(self, line: bytes) -> None:
        """Write one line with one call of the operating system.

        Raises:
            OSError: The disk took nothing, or a part: then nothing may follow in this segment.
        """
        if os.write(self.descriptor, line) != len(line):
            raise OSError(f"{self.path} could be written in part only: the disk is full.")

    def close(self) -> None:
        """Leave the segment to the shipper."""
        os.close(self.descriptor)
