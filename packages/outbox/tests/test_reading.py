"""Reading segments after any damage to a file."""

import os
import tempfile
from collections import deque
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_connections_outbox import Event
from mlflow_connections_outbox._disk import Disk
from mlflow_connections_outbox._format import (
    ACKED_AT,
    HEADER_SIZE,
    acked_field,
    encode,
    frame,
    parse,
)
from mlflow_connections_outbox._reader import (
    Reader,
    Record,
    count_waiting_lines,
    is_alive,
    waiting_in,
)
from mlflow_connections_outbox._writer import Segment


def write(folder: Path, events: list[Event]) -> Path:
    """Write a segment without a living owner."""
    segment = Segment(folder)
    for stamp, event in enumerate(events):
        segment.append(frame(stamp, encode(event)))
    segment.close()
    return segment.path


def read(reader: Reader) -> list[Record]:
    """Read everything."""
    found: deque[Record] = deque()
    while reader.peek() is not None:
        reader.take(1 << 63, 1000, found)
    return list(found)


def numbers(path: Path) -> list[int]:
    """Return the numbers of the events that are read."""
    return [record.event.data["n"] for record in read(Reader(path))]


def some(count: int) -> list[Event]:
    """Return events with numbers."""
    return [Event("s", "k", n, {"n": n, "text": "ä\n" * (n % 3)}) for n in range(count)]


def test_a_segment_cut_at_any_byte_returns_every_complete_event(tmp_path: Path) -> None:
    """A cut loses only the data after it, at each byte of the file."""
    path = write(tmp_path, some(5))
    content = path.read_bytes()
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        whole = content[HEADER_SIZE:cut].count(b"\n") if cut > HEADER_SIZE else 0
        assert numbers(path) == list(range(whole)), cut
        assert waiting_in(path)[0] == whole


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_byte_loses_two_events_at_most(position: int, value: int) -> None:
    """Damage inside a segment is skipped; the data after it is read."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), some(6))
        content = bytearray(path.read_bytes())
        content[HEADER_SIZE + position % (len(content) - HEADER_SIZE)] = value
        path.write_bytes(content)
        found = numbers(path)
        assert found == sorted(set(found))
        assert len(found) >= 4


@settings(max_examples=100, deadline=None)
@given(st.integers(0, HEADER_SIZE - 1), st.integers(0, 255))
def test_a_damaged_header_loses_nothing(position: int, value: int) -> None:
    """Without its header the whole segment counts as not delivered."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), some(3))
        content = bytearray(path.read_bytes())
        content[position] = value
        path.write_bytes(content)
        assert numbers(path) == [0, 1, 2]


def test_reading_continues_after_the_delivered_part(tmp_path: Path) -> None:
    """Acknowledged records are not read again, not even by another reader."""
    path = write(tmp_path, some(4))
    reader = Reader(path)
    records: deque[Record] = deque()
    assert reader.peek()
    reader.take(1 << 63, 2, records)
    assert not reader.acknowledge(records[1].end, 2)
    assert [record.event.data["n"] for record in read(reader)] == [2, 3]
    assert numbers(path) == [2, 3]


def test_an_acknowledgement_beyond_the_data_is_ignored(tmp_path: Path) -> None:
    """If a power failure keeps the header and loses the data, delivery starts again."""
    path = write(tmp_path, some(4))
    reader = Reader(path)
    records = read(reader)
    with path.open("r+b") as file:
        file.seek(ACKED_AT)
        file.write(acked_field(records[3].end))
    os.truncate(path, records[1].end)
    assert numbers(path) == [0, 1]


def test_an_event_longer_than_a_block_is_read(tmp_path: Path) -> None:
    """Lines may be of any length."""
    events = [Event("s", "k", 0, {"n": n, "long": "x" * 300_000}) for n in range(3)]
    assert numbers(write(tmp_path, events)) == [0, 1, 2]


def test_ids_are_stable_and_unique(tmp_path: Path) -> None:
    """Each event has its own ID, the same for each reader, before and after acknowledging."""
    path = write(tmp_path, some(5))
    reader = Reader(path)
    records = read(reader)
    first = [record.event.id for record in records]
    reader.acknowledge(records[1].end, 2)
    assert len(set(first)) == 5
    assert [record.event.id for record in read(Reader(path))] == first[2:]


def test_a_segment_stays_while_its_owner_lives(tmp_path: Path) -> None:
    """Even a delivered segment is removed only when no process writes it."""
    segment = Segment(tmp_path)
    segment.append(frame(1, encode(some(1)[0])))
    reader = Reader(segment.path)
    (record,) = read(reader)
    assert not reader.acknowledge(record.end, 1)
    assert read(reader) == []
    assert is_alive(segment.path)
    assert not reader.remove_if_done()
    segment.append(frame(2, encode(some(1)[0])))
    segment.close()
    assert not reader.remove_if_done()
    (record,) = read(reader)
    assert reader.acknowledge(record.end, 1)
    assert not segment.path.exists()


def test_a_torn_end_does_not_keep_a_segment(tmp_path: Path) -> None:
    """Half an event, whose append never returned, does not keep the file."""
    path = write(tmp_path, some(1))
    with path.open("ab") as file:
        file.write(b"0123 half")
    reader = Reader(path)
    (record,) = read(reader)
    assert reader.acknowledge(record.end, 1)
    assert not path.exists()


def test_segments_are_private_and_numbered(tmp_path: Path) -> None:
    """Only its owner can read a segment, and later ones have higher numbers."""
    paths = [write(tmp_path, []) for _ in range(3)]
    assert [path.name[:8] for path in paths] == ["00000001", "00000002", "00000003"]
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    assert not list(tmp_path.glob("*.new"))


def test_lines_have_the_byte_after_them(tmp_path: Path) -> None:
    """Positions are those of the file."""
    path = write(tmp_path, some(4))
    content = path.read_bytes()
    for record in read(Reader(path)):
        begin = int(record.event.id.rpartition(":")[2])
        assert parse(content[begin : record.end - 1], record.event.id) == (
            record.stamp,
            record.event,
        )


def test_a_count_of_waiting_lines_is_continued(tmp_path: Path) -> None:
    """A count continues from the last one, whatever was written and delivered since."""
    segment = Segment(tmp_path)
    reader = Reader(segment.path)
    count = count_waiting_lines(segment.path)
    assert count.lines == 0
    waiting = stamp = 0
    for written, delivered in ((5, 2), (0, 3), (7, 0), (4, 6), (3, 8)):
        for event in some(written):
            segment.append(frame(stamp := stamp + 1, encode(event)))
        records: deque[Record] = deque()
        for _ in range(delivered):
            assert reader.peek() is not None
            reader.take(1 << 63, 1, records)
        if records:
            reader.acknowledge(records[-1].end, delivered)
        waiting += written - delivered
        count = count_waiting_lines(segment.path, count)
        assert count.lines == count_waiting_lines(segment.path).lines == waiting
        assert waiting_in(segment.path).events == waiting
    segment.close()


def test_a_count_reads_nothing_twice(tmp_path: Path) -> None:
    """With a backlog of any size, a flush reads only the new part."""

    class Counting(Disk):
        def __init__(self) -> None:
            self.read = 0

        def pread(self, descriptor: int, size: int, offset: int) -> bytes:
            block = os.pread(descriptor, size, offset)
            self.read += len(block)
            return block

    disk = Counting()
    path = write(tmp_path, some(10_000))
    count = count_waiting_lines(path, disk=disk)
    assert count.lines == 10_000
    assert disk.read > 300_000
    disk.read = 0
    assert count_waiting_lines(path, count, disk).lines == 10_000
    assert disk.read < 5_000
