"""The bytes of a segment: a header, then one line for each event. Nothing in this module uses a file.

The package's docstring describes both.
"""

import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from importlib import import_module
from typing import Any, NamedTuple

from ._interface import Event

ACKED_AT = len(b"outbox/2 acked=")
"""The position of the acknowledgement in the header, in every format."""

_WIDTH = 64  # maximum length of a host's name
_HEADER = re.compile(
    rb"outbox/2 acked=(?P<acked>\d{11})\.(?P<check>[0-9a-f]{4}) created=(?P<created>\d{20}) boot=(?P<boot>[0-9a-f-]{36}) "
    rb"host=(?P<host>[A-Za-z0-9._-]{0,64}) *pid=(?P<pid>\d{10})\n"
)
_HEADER_1 = re.compile(
    rb"outbox/1 acked=(?P<acked>\d{16}) born=(?P<created>\d{20}) boot=(?P<boot>[0-9a-f-]{36}) "
    rb"pid=(?P<pid>\d{10})\n"
)
HEADER_SIZE = ACKED_AT + 16 + len(" created= boot= host= pid=\n") + 20 + 36 + _WIDTH + 10
HEADER_SIZE_1 = ACKED_AT + 16 + len(" born= boot= pid=\n") + 20 + 36 + 10
_LINE = re.compile(rb"([0-9a-f]{8}) ((\d+) ([^\n]*))\n")
_AROUND = len(b"01234567 \n")
_NAME = re.compile(r"(?P<number>\d+)-(?P<token>[0-9a-f]+)(?:\.(?P<adopter>[0-9a-f]+))?\.seg")


class Header(NamedTuple):
    """The header of a segment.

    Attributes:
        acked: The destination has everything before this byte.
        created: The monotonic clock in nanoseconds, before the first event was stamped.
        boot: The boot of the machine that this clock belongs to; empty if the header is damaged.
        host: The machine that wrote the segment; empty in format 1, or if the header is damaged.
        pid: The process that wrote it.
        size: The position of the first line.
        version: The version of the format.
    """

    acked: int
    created: int
    boot: str
    host: str
    pid: int
    size: int
    version: int


class SegmentName(NamedTuple):
    """The name of a segment.

    Attributes:
        number: Increases within a spool.
        token: A random part.
        adopter: The machine that took over the segment of a silent one; usually empty.
    """

    number: int
    token: str
    adopter: str

    def __str__(self) -> str:
        adopter = f".{self.adopter}" if self.adopter else ""
        return f"{self.number:08d}-{self.token}{adopter}.seg"

    @property
    def stem(self) -> str:
        """Return the part that stays the same when another machine adopts the segment."""
        return f"{self.number:08d}-{self.token}"


def segment_name(name: str) -> SegmentName | None:
    """Parse the name of a file, or return None if it is not a segment's."""
    match = _NAME.fullmatch(name)
    return SegmentName(int(match[1]), match[2], match[3] or "") if match else None


def header(acked: int, created: int, boot: str, host: str, pid: int) -> bytes:
    """Return the bytes of a header."""
    return b"outbox/2 acked=%b created=%020d boot=%b host=%b pid=%010d\n" % (
        *(acked_field(acked), created, boot.encode(), host.encode()[:_WIDTH].ljust(_WIDTH)),
        pid,
    )


def acked_field(acked: int, version: int = 2) -> bytes:
    """Return the field of a header that is written in place, at `ACKED_AT`.

    A checksum detects a mixture of two values after a power failure.
    """
    if version == 1:
        return b"%016d" % acked
    digits = b"%011d" % acked
    return b"%b.%04x" % (digits, zlib.crc32(digits) & 0xFFFF)


def parse_header(content: bytes) -> Header:
    """Parse the beginning of a segment.

    A damaged header (after a power failure) parses as nothing delivered, with an unknown writer.

    Args:
        content: Enough of the segment to hold a header and, in case that is damaged, its first
            line.
    """
    for version, pattern, size in ((2, _HEADER, HEADER_SIZE), (1, _HEADER_1, HEADER_SIZE_1)):
        if match := pattern.match(content):
            fields = match.groupdict()
            noted = int(fields["acked"])
            if version == 2 and acked_field(noted) != content[ACKED_AT : ACKED_AT + 16]:
                noted = size
            boot, host = fields["boot"].decode(), fields.get("host", b"").decode()
            created, pid = int(fields["created"]), int(fields["pid"])
            return Header(max(noted, size), created, boot, host, pid, size, version)
    size = _first_line_of(content)
    return Header(size, 0, "", "", 0, size, 2)


def _first_line_of(content: bytes) -> int:
    """Find the beginning of the lines after a damaged header."""
    sizes = (HEADER_SIZE, HEADER_SIZE_1)
    for size in sizes:
        if parse(content[size:].partition(b"\n")[0], "") is not None:
            return size
    for size in sizes:
        if content[size - 1 : size] == b"\n":
            return size
    return HEADER_SIZE if len(content) <= HEADER_SIZE else 0


def _plain(value: Any) -> Any:
    """Return a JSON value for a value that JSON lacks: a NumPy scalar's number, and anything else's text."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, Enum):
        return value.value
    item = getattr(value, "item", None)
    if callable(item):
        try:
            plain = item()
        except Exception:  # noqa: BLE001 - on any error its text is used
            return str(value)
        if isinstance(plain, (bool, int, float, str)):
            return plain
    return str(value)


_READ = json.JSONDecoder().decode
_ENCODER = json.JSONEncoder(separators=(",", ":"), default=_plain, check_circular=False)


def _make_encoder() -> Callable[[Any, int], Iterable[str]]:
    """Return the standard library's encoder, created once instead of for every event."""
    from json import encoder

    make = getattr(encoder, "c_make_encoder", None)
    if make is None:  # a Python other than CPython
        return lambda value, _: _ENCODER.iterencode(value)
    escape = encoder.encode_basestring_ascii
    made: Callable[[Any, int], Iterable[str]] = make(
        *(None, _plain, escape, None, ":", ",", False, False, True)
    )
    return made


_CHUNKS = _make_encoder()


def encode_by_standard_library(event: Event) -> bytes:
    """Return an event as JSON. NaN and the infinities are kept, in Python's own spelling.

    Raises:
        ValueError: It contains itself, or cannot be converted.
    """
    # An event that is sent again keeps its ID.
    content = event[:5] if event[4] else event[:4]
    try:
        return "".join(_CHUNKS(content, 0)).encode("ascii")
    except RecursionError:
        raise ValueError("An event contains itself.") from None
    except TypeError:  # keys that are not text
        return "".join(_CHUNKS(_with_text_keys(content), 0)).encode("ascii")


def make_encode() -> Callable[[Event], bytes]:
    """Return a function that encodes an event as JSON: with orjson, if installed, in a fifth of the time.

    orjson never changes the result: values that it writes differently from the standard library go
    to the standard library. Those are text beyond ASCII, NaN (which it writes as null), numbers
    beyond 64 bits, and types that JSON lacks.
    """
    try:
        orjson = import_module("orjson")
        dumps = orjson.dumps
        options = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
    except (ImportError, AttributeError):
        return encode_by_standard_library

    def encode_by_orjson(event: Event) -> bytes:
        try:
            body: bytes = dumps(event[:5] if event[4] else event[:4], None, options)
            if b"null" not in body and body.isascii():
                return body
        except TypeError:  # the base class of its errors
            pass
        return encode_by_standard_library(event)

    return encode_by_orjson


encode = make_encode()


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_with_text_keys(item) for item in value]
    return value


def decode(body: bytes, identity: str) -> Event:
    """Return the event that `encode` encoded.

    Args:
        body: JSON.
        identity: The ID of the event, unless the event contains one.

    Raises:
        ValueError: It is not an event.
        TypeError: The same.
    """
    stream, kind, at, data, *more = _READ(body.decode("ascii"))
    return Event(stream, kind, at, data, more[0] if more else identity)


def frame(stamp: int, body: bytes) -> bytes:
    """Return the line of an encoded event.

    Args:
        stamp: Nanoseconds of the monotonic clock, which all processes of one boot share.
        body: An encoded event.
    """
    content = b"%d %b" % (stamp, body)
    return b"%08x %b\n" % (zlib.crc32(content), content)


class Lines(NamedTuple):
    """The events of many lines, in columns.

    Attributes:
        sizes: The bytes of each line, with its newline.
        stamps: Nanoseconds, ascending.
        fields: The stream, kind, time and data of each.
    """

    sizes: list[int]
    stamps: list[int]
    fields: list[list[Any]]


def parse_block(block: bytes, after: int) -> Lines | None:
    """Parse many lines at once, which takes a fraction of the time of parsing each.

    Args:
        block: Whole lines.
        after: The stamp before the first one.

    Returns:
        The events; None if a line needs individual parsing: it is damaged, contains its ID, or is stamped before its
        predecessor.
    """
    checksums: tuple[bytes, ...]
    found = _LINE.findall(block)
    if not found:
        return None
    checksums, contents, stamp_digits, bodies = zip(*found, strict=True)
    if b"%08x" * len(found) % tuple(map(zlib.crc32, contents)) != b"".join(checksums):
        return None
    sizes = [len(content) + _AROUND for content in contents]
    stamps = list(map(int, stamp_digits))
    if sum(sizes) != len(block) or stamps[0] < after or stamps != sorted(stamps):
        return None
    try:
        fields = _READ(f"[{b','.join(bodies).decode('ascii')}]")
        if set(map(type, fields)) != {list} or set(map(len, fields)) != {4}:
            return None
    except (ValueError, RecursionError):
        return None
    return Lines(sizes, stamps, fields) if len(fields) == len(sizes) else None


def is_whole(line: bytes) -> bool:
    """Return whether the checksum of a line, without its newline, is correct."""
    try:
        return int(line[:8], 16) == zlib.crc32(line[9:])
    except ValueError:
        return False


def parse(line: bytes, identity: str) -> tuple[int, Event] | None:
    """Parse a line.

    Args:
        line: The bytes before a newline.
        identity: The ID of the event.

    Returns:
        The stamp and the event, or None for a damaged line.
    """
    content = line[9:]
    try:
        if int(line[:8], 16) != zlib.crc32(content):
            return None
        stamp, _, body = content.partition(b" ")
        return int(stamp), decode(body, identity)
    except (ValueError, TypeError, RecursionError):
        return None
