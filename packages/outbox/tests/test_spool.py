"""The events of many processes, in one order, through any sequence of faults."""

import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mlflow_connections_outbox import Event, Policy
from mlflow_connections_outbox._disk import DISK, Disk, Machine
from mlflow_connections_outbox._format import encode, frame
from mlflow_connections_outbox._spool import Spool
from mlflow_connections_outbox._writer import Segment


class AnySequence(RuleBasedStateMachine):
    """Three writers that die and return, and a shipper that fails and is replaced.

    The destination must have each event whose append returned, once without repetitions, and in the
    order in which the appends returned, whichever process they were in.
    """

    def __init__(self) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self._temporary.name)
        self.writers: dict[int, Segment] = {}
        self.appended: list[int] = []
        self.arrived: dict[str, int] = {}
        self.spool = Spool(self.folder)
        assert self.spool.try_lock()

    def teardown(self) -> None:
        """Deliver the rest, and compare."""
        for writer in self.writers.values():
            writer.close()
        self.deliver(10_000)
        assert list(self.arrived.values()) == self.appended
        self.spool.collect(1)
        assert not self.spool.remove_delivered()
        self.spool.unlock()
        self._temporary.cleanup()

    @rule(who=st.integers(0, 2), long=st.booleans())
    def append(self, who: int, long: bool) -> None:
        """A process appends."""
        if who not in self.writers:
            self.writers[who] = Segment(self.folder)
        number = len(self.appended)
        body = encode(Event("run", "k", 0, {"n": number, "pad": "x" * (70_000 if long else 0)}))
        self.writers[who].append(frame(time.monotonic_ns(), body))
        self.appended.append(number)

    @rule(who=st.integers(0, 2), torn=st.binary(max_size=20))
    def die(self, who: int, torn: bytes) -> None:
        """A process ends, perhaps in the middle of an append."""
        if writer := self.writers.pop(who, None):
            writer.append(torn.replace(b"\n", b""))
            writer.close()

    @rule(limit=st.integers(1, 5))
    def deliver(self, limit: int) -> None:
        """A batch is delivered."""
        records = self.spool.collect(limit)
        self.take(records)
        self.spool.acknowledge(records)

    @rule(limit=st.integers(1, 5))
    def deliver_and_forget(self, limit: int) -> None:
        """A batch is delivered, and the shipper dies before it records that."""
        self.take(self.spool.collect(limit))
        self.replace()

    @rule(limit=st.integers(1, 5))
    def fail(self, limit: int) -> None:
        """A batch is not delivered."""
        self.spool.collect(limit)

    @rule()
    def replace(self) -> None:
        """Another shipper takes over."""
        self.spool.unlock()
        self.spool = Spool(self.folder)
        assert self.spool.try_lock()

    @rule()
    def sweep(self) -> None:
        """Delivered segments are removed."""
        self.spool.remove_delivered()

    def take(self, records: list[Any]) -> None:
        """The destination accepts a batch, and ignores events that it has."""
        for record in records:
            number = record.event.data["n"]
            assert self.arrived.setdefault(record.event.id, number) == number

    @invariant()
    def nothing_is_ahead_of_its_turn(self) -> None:
        """The delivered events are a prefix of the appended ones."""
        arrived = list(self.arrived.values())
        assert arrived == self.appended[: len(arrived)]


AnySequence.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnySequence = AnySequence.TestCase


PING_PONG = """
import os, sys, time
from pathlib import Path
from mlflow_connections_outbox import Event, Policy
from mlflow_connections_outbox._format import encode, frame
from mlflow_connections_outbox._writer import Segment

# Eight writers, so that the shipper is reading some while the others go on.
folder, count, writers = Path(sys.argv[1]), int(sys.argv[2]), 8
pipes = [os.pipe() for _ in range(writers)]
for me in range(writers):
    if os.fork() == 0:
        segment = Segment(folder)
        while True:
            number = int.from_bytes(os.read(pipes[me][0], 4), "big")
            if number >= count:
                os._exit(0)
            body = encode(Event("run", "k", 0, {"n": number}))
            segment.append(frame(time.monotonic_ns(), body))
            after = (me + number * 3 + 1) % writers
            os.write(pipes[after][1], (number + 1).to_bytes(4, "big"))
os.write(pipes[0][1], (0).to_bytes(4, "big"))
os.wait()
for _, end in pipes:
    os.write(end, count.to_bytes(4, "big"))
"""


def test_no_event_is_ahead_of_its_cause_while_processes_write(tmp_path: Path) -> None:
    """Each event is caused by the previous one, in another process; the shipper never sees them swapped."""
    count = 5000
    writers = subprocess.Popen([sys.executable, "-c", PING_PONG, str(tmp_path), str(count)])
    spool = Spool(tmp_path)
    got: list[int] = []
    while len(got) < count:
        records = spool.collect(500)
        got += [record.event.data["n"] for record in records]
        spool.acknowledge(records)
        assert writers.poll() in {None, 0}
    assert got == list(range(count))
    assert writers.wait() == 0


def test_an_earlier_boot_comes_first(tmp_path: Path) -> None:
    """The clocks of two boots are not comparable: an earlier boot's events come first."""

    class Earlier(Disk):
        def machine(self) -> Machine:
            return Machine(DISK.machine().host, f"{1:036x}")

    earlier = Segment(tmp_path, Earlier())
    earlier.append(frame(2**62, encode(Event("run", "k", 0, {"n": 0}))))
    earlier.close()
    now = Segment(tmp_path)
    now.append(frame(5, encode(Event("run", "k", 0, {"n": 1}))))
    now.close()
    records = Spool(tmp_path).collect(10)
    assert [record.event.data["n"] for record in records] == [0, 1]


def test_events_stamped_after_the_listing_wait_for_the_next(tmp_path: Path) -> None:
    """A later event could precede its cause, so it is not returned yet."""
    segment = Segment(tmp_path)
    segment.append(frame(2**62, encode(Event("run", "k", 0, {}))))
    assert Spool(tmp_path).collect(10) == []
    segment.close()


def test_only_one_process_takes_events(tmp_path: Path) -> None:
    """The lock of a spool is held by one process, and is free when that is done."""
    one, other = Spool(tmp_path), Spool(tmp_path)
    assert one.try_lock()
    assert one.try_lock()
    assert not other.try_lock()
    one.unlock()
    assert other.try_lock()
    other.unlock()


def test_a_postponed_event_is_the_newest(tmp_path: Path) -> None:
    """It keeps its ID, and another process finds it in its new place after the old one is acknowledged."""
    segment = Segment(tmp_path)
    for number in range(3):
        segment.append(frame(number + 1, encode(Event("run", "k", 0, {"n": number}))))
    segment.close()
    spool = Spool(tmp_path)
    first = spool.collect(1)
    spool.postpone(first[0])
    spool.acknowledge(first, rejected=1)
    again = Spool(tmp_path).collect(10)
    assert [record.event.data["n"] for record in again] == [1, 2, 0]
    assert again[-1].event == first[0].event


def test_hundreds_of_small_segments_keep_no_files_open(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Segments of many short processes are delivered without a descriptor for each."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, before))
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    for number in range(600):
        segment = Segment(tmp_path)
        segment.append(frame(number + 1, encode(Event("run", "k", 0, {"n": number}))))
        segment.close()
    spool = Spool(tmp_path)
    got: list[int] = []
    while records := spool.collect(500):
        got += [record.event.data["n"] for record in records]
        spool.acknowledge(records)
    assert got == list(range(600))
    assert not spool.remove_delivered()


def test_dropping_spares_later_events(tmp_path: Path) -> None:
    """Dropping counts waiting events, and a living process continues in its segment."""
    segment = Segment(tmp_path)
    segment.append(frame(1, encode(Event("run", "k", 0, {"n": 0}))))
    spool = Spool(tmp_path)
    assert spool.drop_waiting() == 1
    segment.append(frame(2, encode(Event("run", "k", 0, {"n": 1}))))
    assert [record.event.data["n"] for record in spool.collect(10)] == [1]
    segment.close()


def test_one_thread_reads_ahead_while_another_acknowledges(tmp_path: Path) -> None:
    """Events are returned once and in order, and their segments removed, whichever thread read them."""
    for number in range(40):
        segment = Segment(tmp_path)
        for each in range(50):
            body = encode(Event("run", "k", 0, {"n": 50 * number + each}))
            segment.append(frame(time.monotonic_ns(), body))
        segment.close()
    spool = Spool(tmp_path)
    ended = threading.Event()

    def read_ahead() -> None:
        while not ended.is_set():
            spool.read_ahead(130)

    threads = [threading.Thread(target=read_ahead) for _ in range(2)]
    for thread in threads:
        thread.start()
    got: list[int] = []
    while records := spool.collect(70):
        got += [record.event.data["n"] for record in records]
        spool.acknowledge(records[:40])
        spool.acknowledge(records[40:])
    ended.set()
    for thread in threads:
        thread.join()
    assert got == list(range(2000))
    assert not spool.remove_delivered()
    assert not list(tmp_path.glob("*.seg"))


def test_a_batch_of_large_events_is_short(tmp_path: Path) -> None:
    """However large the events of a backlog are, only some megabytes of them are in memory."""
    segment = Segment(tmp_path)
    for number in range(60):
        body = encode(Event("run", "k", 0, {"n": number, "pad": "x" * 100_000}))
        segment.append(frame(time.monotonic_ns(), body))
    segment.close()
    spool = Spool(tmp_path, Policy(batch_bytes=1_000_000))
    got: list[int] = []
    while records := spool.collect(500):
        spool.read_ahead(1000)
        assert len(spool._pending) <= 22
        assert len(records) <= 22
        got += [record.event.data["n"] for record in records]
        spool.acknowledge(records)
    assert got == list(range(60))
