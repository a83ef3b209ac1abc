"""One event as one line: a checksum, a stamp that orders it among processes, and JSON.

A line that is torn (a crash, a full disk) has no newline or the wrong checksum, and JSON escapes
newlines, so a reader finds the next event behind any damage.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

from ._interface import Event


def _plain(value: Any) -> Any:
    """Make JSON of what is none: a NumPy scalar is its number, anything else its text."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    item = getattr(value, "item", None)
    if callable(item):
        try:
            plain = item()
        except Exception:  # noqa: BLE001 - whatever it is, its text is there
            return str(value)
        if isinstance(plain, (bool, int, float, str)):
            return plain
    return str(value)


_READ = json.JSONDecoder().decode
_FAST = json.JSONEncoder(separators=(",", ":"), default=_plain).encode


def encode(event: Event) -> bytes:
    """Give an event as JSON. NaN and the infinities are kept, as Python's own words for them.

    Raises:
        ValueError: It contains itself, or nothing can be made of it.
    """
    content = [event.stream, event.kind, event.at, event.data]
    try:
        text = _FAST(content)
    except TypeError:  # keys that are no text
        text = _FAST(_with_text_keys(content))
    return text.encode("ascii")


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_with_text_keys(item) for item in value]
    return value


def frame(stamp: int, body: bytes) -> bytes:
    """Give the line of an encoded event.

    Args:
        stamp: Nanoseconds of the monotonic clock, which all processes of one boot share.
        body: What `encode` gave.
    """
    content = b"%d %b" % (stamp, body)
    return b"%08x %b\n" % (zlib.crc32(content), content)


def parse(line: bytes, identity: str) -> tuple[int, Event] | None:
    """Read a line, without its newline, back.

    Args:
        line: What stands before a newline.
        identity: The event's id.

    Returns:
        The stamp and the event; None for a damaged line.
    """
    content = line[9:]
    try:
        if int(line[:8], 16) != zlib.crc32(content):
            return None
        stamp, _, body = content.partition(b" ")
        stream, kind, at, data = _READ(body.decode("ascii"))
        return int(stamp), Event(stream, kind, at, data, identity)
    except (ValueError, TypeError):
        return None
