# ruff: noqa: D102 - the methods of the simulated disk are documented where it is overridden
"""The spool on a simulated file system: crashes at every step, power failures, full disks, two machines.

The file system is worse than real ones: until a file is synced to the disk, a power failure keeps
any part of its writes, in any order, torn anywhere; names survive only if their folder was synced.
"""

import errno
import itertools
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from mlflow_connections_outbox import Destination, Event, Policy, _dead_letters
from mlflow_connections_outbox._disk import Disk, FileStatus, Machine
from mlflow_connections_outbox._files import ASIDE, OVERFLOW
from mlflow_connections_outbox._format import encode
from mlflow_connections_outbox._retry import retry
from mlflow_connections_outbox._spool import Spool
from mlflow_connections_outbox._writer import Segment, SpoolFull, Writer, waiting_bytes

FOLDER = Path("/spool")
DESTINATION = Destination("d", "http://d", "m:f")
MACHINE = Machine("host", f"{1:036x}")
DAY = 86400.0
SEEDS = (14, 23, 32, 304, 846, 100164)
"""Runs that failed during development; `play` repeats one exactly."""


class Crash(BaseException):
    """The process is killed at this system call."""


class File:
    """An inode: the readers' view, the content after a power failure, and the writes in between."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.durable = bytearray()
        self.unsynced: list[tuple[int, bytes]] = []
        self.links = 0
        self.mtime = 0.0

    def put(self, offset: int, data: bytes) -> None:
        """Write to the page cache."""
        self.content[offset : offset + len(data)] = data
        self.unsynced.append((offset, data))

    def lose_power(self, dice: random.Random) -> None:
        """Keep any part of the data that was not synced."""
        content = self.durable
        for offset, data in dice.sample(self.unsynced, len(self.unsynced)):
            kept = dice.choice((b"", data[: dice.randint(0, len(data))], data))
            if len(content) < offset:
                content.extend(bytes(offset - len(content)))  # a hole
            content[offset : offset + len(kept)] = kept
        self.content, self.durable, self.unsynced = content, bytearray(content), []


class FileSystem:
    """The file system that the machines share.

    Attributes:
        locks: `true`; `lying` (everybody gets every lock); `local` (a machine sees only its own).
        free: The bytes that may still be written.
    """

    def __init__(self, locks: str) -> None:
        self.locks = locks
        self.names: dict[str, File] = {}
        self.durable: dict[str, File] = {}
        self.journal: list[tuple[str, str, File | None]] = []
        self.held: dict[tuple[int, str], object] = {}
        self.now = 1e9
        self.free = 1 << 40
        self.ticks = itertools.count(1)

    def change(self, name: str, before: str = "", file: File | None = None) -> None:
        """Create a name, rename a file, or remove a name; a power failure may undo it."""
        self.journal.append((name, before, file))
        self._change(self.names, name, before, file)

    @staticmethod
    def _change(names: dict[str, File], name: str, before: str, file: File | None) -> None:
        if before:
            names[name] = names.pop(before)
        elif file is not None:
            names[name] = file
        else:
            names.pop(name, None)

    def commit(self, changes: int) -> None:
        """Make the first changes of names survive a power failure."""
        for change in self.journal[:changes]:
            self._change(self.durable, *change)
        del self.journal[:changes]

    def lose_power(self, dice: random.Random) -> None:
        """Keep any beginning of the unsynced changes of names, and any part of the data."""
        self.commit(dice.randint(0, len(self.journal)))
        self.journal.clear()
        self.names = dict(self.durable)
        for file in {id(each): each for each in self.names.values()}.values():
            file.lose_power(dice)
            file.links = 1
        self.held.clear()


class Process(Disk):
    """A process's view of the file system: its descriptors, and its pending faults."""

    _numbers = itertools.count(3)

    def __init__(self, files: FileSystem, machine: Machine) -> None:
        self.files = files
        self._machine = machine
        self.opened: dict[int, tuple[File, int]] = {}
        self.crash_in: int | None = None
        self.fault = ""

    def die(self) -> None:
        """Die; the operating system closes everything."""
        self.crash_in, self.fault = None, ""
        for descriptor in list(self.opened):
            self.close(descriptor)

    def _step(self) -> None:
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                raise Crash

    def is_supported(self) -> bool:
        return True

    def machine(self) -> Machine:
        return self._machine

    def time(self) -> float:
        return self.files.now

    def monotonic_ns(self) -> int:
        return next(self.files.ticks)

    def sees_other_machines(self, folder: Path) -> bool:
        return self.files.locks != "local"

    def open(self, path: Any, flags: int, mode: int = 0o600) -> int:  # type: ignore[override]
        self._step()
        name = str(path)
        file = self.files.names.get(name)
        if file is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "no such file", name)
            self._fail("space", "io")
            file = File()
            self.files.change(name, file=file)
            file.links, file.mtime = 1, self.files.now
        elif flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, "exists", name)
        if flags & os.O_TRUNC:
            file.content, file.unsynced = bytearray(), [(0, b"")]
        descriptor = next(self._numbers)
        self.opened[descriptor] = file, flags
        return descriptor

    def close(self, descriptor: int) -> None:
        file, _ = self.opened.pop(descriptor)
        for key, holder in list(self.files.held.items()):
            if holder == (self, descriptor) and key[0] == id(file):
                del self.files.held[key]

    def write(self, descriptor: int, data: Any) -> int:
        self._step()
        self._fail("space", "io")
        file, _ = self.opened[descriptor]
        data = bytes(data)
        if self.fault == "short":
            self.fault = "space"  # a full disk's next error
            data = data[: len(data) // 2]
        file.put(len(file.content), data)
        file.mtime = self.files.now
        self._step()
        return len(data)

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        return bytes(self.opened[descriptor][0].content[offset : offset + size])

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:  # type: ignore[override]
        self._step()
        self._fail("io")
        file, _ = self.opened[descriptor]
        file.put(offset, data)
        return len(data)

    def truncate(self, descriptor: int, size: int) -> None:
        file, _ = self.opened[descriptor]
        del file.content[size:]
        file.unsynced = [(o, d[: max(0, size - o)]) for o, d in file.unsynced if o < size]

    def size(self, descriptor: int) -> int:
        return len(self.opened[descriptor][0].content)

    def is_linked(self, descriptor: int) -> bool:
        return self.opened[descriptor][0].links > 0

    def is_named(self, descriptor: int, path: Path) -> bool:
        return self.files.names.get(str(path)) is self.opened[descriptor][0]

    def status(self, path: Path) -> FileStatus:
        file = self._file(path)
        return FileStatus(len(file.content), file.mtime)

    def free(self, path: Path) -> int:
        return self.files.free

    def touch(self, path: Path) -> None:
        self._file(path).mtime = self.files.now

    def make_folder(self, path: Path) -> None:
        pass

    def names(self, folder: Path) -> list[str]:  # type: ignore[override]
        return [Path(name).name for name in self.files.names if Path(name).parent == folder]

    def rename(self, before: Any, after: Any) -> None:  # type: ignore[override]
        self._step()
        self._file(before)
        if old := self.files.names.get(str(after)):
            old.links = 0
        self.files.change(str(after), before=str(before))
        self._step()

    def unlink(self, path: Any) -> None:  # type: ignore[override]
        self._step()
        self._file(path).links = 0
        self.files.change(str(path))
        self._step()

    def sync(self, descriptor: int) -> None:
        self._step()
        self._fail("io")
        file, _ = self.opened[descriptor]
        file.durable, file.unsynced = bytearray(file.content), []

    def sync_folder(self, path: Path) -> None:
        self._step()
        self._fail("io")
        self.files.commit(len(self.files.journal))

    def lock(self, descriptor: int) -> bool:
        file, _ = self.opened[descriptor]
        scope = self._machine.host if self.files.locks == "local" else ""
        holder = self.files.held.setdefault((id(file), scope), (self, descriptor))
        return self.files.locks == "lying" or holder == (self, descriptor)

    def _file(self, path: Any) -> File:
        try:
            return self.files.names[str(path)]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path)) from None

    def _fail(self, *kinds: str) -> None:
        if self.fault in kinds:
            code = errno.ENOSPC if self.fault == "space" else errno.EIO
            raise OSError(code, os.strerror(code))


class SimulatedWriter(Writer):
    """A writer whose folder is on the simulated file system."""

    def _create_folder(self) -> Path:
        self._folder = FOLDER
        return FOLDER


POLICY = Policy(segment_bytes=700, max_age=30 * DAY, dead_letter_file=400)


class Model(RuleBasedStateMachine):
    """Three writers and a shipper on each machine; any of them dies, and every call may fail.

    Whatever happens, an event whose append returned is in the spool, with the destination, or set
    aside; after a power failure, if it was synced before. Nothing else arrives, and nothing arrives
    twice except under its previous ID.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begin("true", False, 0)

    @initialize(
        locks=st.sampled_from(["true", "local"]),
        durable=st.booleans(),
        seed=st.integers(0, 1 << 32),
    )
    def begin(self, locks: str, durable: bool, seed: int) -> None:
        """Choose the file system, and whether every event is synced to the disk."""
        self.dice = random.Random(seed)
        self.files = FileSystem(locks)
        # Half of the runs reach the limit repeatedly, and continue beyond it.
        limit = 1500 if seed % 2 else POLICY.max_bytes
        self.policy = POLICY._replace(sync_events=durable, max_bytes=limit)
        self.boots = itertools.count(1)
        self.machines = [
            Machine(f"host{n}", self.boot()) for n in range(2 if locks == "local" else 1)
        ]
        self.writers: dict[int, SimulatedWriter] = {}
        self.shippers: dict[int, tuple[Process, Spool]] = {}
        self.kept: dict[int, int] = {}  # number: writer, in the order in which appends returned
        self.safe: set[int] = set()  # a power failure must not lose them
        self.perhaps: set[int] = set()  # killed in the append, or not synced before a power failure
        self.arrived: dict[str, int] = {}
        self.out_of_turn: set[int] = set()
        self.numbers = itertools.count()
        self.rejects = True

    def boot(self) -> str:
        """Start a new boot."""
        return f"{next(self.boots):036x}"

    def process(self, who: int) -> Process:
        """Start a process on one of the machines."""
        return Process(self.files, self.machines[who % len(self.machines)])

    @contextmanager
    def may_die(self, process: Process, crash_in: int | None) -> Iterator[None]:
        """Run steps of a process that may be killed after any of them."""
        process.crash_in = crash_in
        try:
            yield
        except Crash:
            process.die()
        finally:
            process.crash_in = None

    @rule(
        who=st.integers(0, 2),
        fault=st.sampled_from(["", "", "", "short", "space", "io"]),
        crash_in=st.none() | st.integers(0, 12),
    )
    def append(self, who: int, fault: str = "", crash_in: int | None = None) -> None:
        """A process appends, on a disk that may be full or broken, and may be killed."""
        if who not in self.writers:
            self.writers[who] = SimulatedWriter(DESTINATION, self.policy, self.process(who))
        writer = self.writers[who]
        process = writer._disk
        assert isinstance(process, Process)
        number = next(self.numbers)
        body = encode(Event(f"run {who}", "k", 0, {"n": number, "pad": "x" * (number % 90)}))
        process.fault = fault
        self.perhaps.add(number)
        with self.may_die(process, crash_in):
            try:
                writer.append(body)
            except (OSError, SpoolFull):
                self.perhaps.discard(
                    number
                )  # it continues in memory, so it must not arrive from the disk
            else:
                self.perhaps.discard(number)
                self.kept[number] = who
                if self.policy.sync_events and writer.sync_error is None:
                    self.safe.add(number)
        process.fault, writer.sync_error = "", None
        if not process.opened and writer._segment is not None:
            del self.writers[who]  # it was killed

    @rule(who=st.integers(0, 2))
    def die(self, who: int) -> None:
        """A process ends without closing anything."""
        if writer := self.writers.pop(who, None):
            assert isinstance(writer._disk, Process)
            writer._disk.die()

    @rule(
        who=st.integers(0, 1),
        limit=st.integers(1, 6),
        answer=st.sampled_from(["yes", "yes", "yes", "part", "no", "lost"]),
        fault=st.sampled_from(["", "", "", "io", "space"]),
        crash_in=st.none() | st.integers(0, 12),
    )
    def ship(
        self,
        who: int,
        limit: int,
        answer: str = "yes",
        fault: str = "",
        crash_in: int | None = None,
    ) -> None:
        """A shipper sends a batch; the destination accepts a part, nothing, or all with a lost reply."""
        who %= len(self.machines)
        if who not in self.shippers:
            process = self.process(who)
            self.shippers[who] = process, Spool(FOLDER, self.policy, process)
        process, spool = self.shippers[who]
        process.fault = fault
        with self.may_die(process, crash_in), suppress(OSError):
            if spool.try_lock():
                self.send(spool, limit, answer)
        process.fault = ""
        if not process.opened:
            del self.shippers[who]

    def send(self, spool: Spool, limit: int, answer: str) -> None:
        """Send one batch."""
        records = spool.collect(limit)
        if answer == "no":
            return
        if limit % 2:
            spool.read_ahead(2 * limit)
        for record in records[: len(records) // 2 if answer == "part" else None]:
            number = record.event.data["n"]
            if self.rejects and number % 7 == 3:
                spool.reject(record, "no")
                self.out_of_turn.add(number)
                rejected = 1
            else:
                assert self.arrived.setdefault(record.event.id, number) == number
                rejected = 0
            if answer != "lost":
                spool.acknowledge([record], rejected)

    @rule(who=st.integers(0, 1))
    def sync(self, who: int) -> None:
        """A shipper syncs everything to the disk."""
        who %= len(self.machines)
        if who in self.shippers:
            self.shippers[who][1].sync()
            self.safe |= self.kept.keys()

    @rule()
    @precondition(lambda self: len(self.machines) == 1)
    def lose_power(self) -> None:
        """The machine loses power and boots again."""
        for process in [
            *(w._disk for w in self.writers.values()),
            *(p for p, _ in self.shippers.values()),
        ]:
            assert isinstance(process, Process)
            process.die()
        self.writers.clear()
        self.shippers.clear()
        self.files.lose_power(self.dice)
        self.machines = [Machine(machine.host, self.boot()) for machine in self.machines]
        self.perhaps |= self.kept.keys() - self.safe
        for number in self.perhaps:
            self.kept.pop(number, None)
        self.out_of_turn |= (
            self.safe | self.perhaps
        )  # an acknowledgement may be lost: they are sent again

    @rule(who=st.integers(0, 1), days=st.integers(0, 40))
    def grow_old(self, who: int, days: int) -> None:
        """Time passes, and a shipper that still cannot send sets old events aside."""
        self.files.now += days * DAY
        self.files.ticks = itertools.count(next(self.files.ticks) + int(days * DAY * 1e9))
        if days and len(self.machines) > 1:
            self.out_of_turn |= self.kept.keys()  # the other machine may take them over
        who %= len(self.machines)
        if who in self.shippers and days > POLICY.max_age / DAY:
            _, spool = self.shippers[who]
            if spool._lock is not None and spool.expire(self.policy.max_age):
                self.out_of_turn |= self.kept.keys()

    @rule(crash_in=st.none() | st.integers(0, 20), fault=st.sampled_from(["", "", "short", "io"]))
    def bring_back(self, crash_in: int | None = None, fault: str = "") -> None:
        """A person retries events that were set aside; the command may be killed."""
        process = self.process(0)
        process.fault = fault
        with self.may_die(process, crash_in), suppress(OSError):
            retry(FOLDER, process)
        process.die()

    def teardown(self) -> None:
        """Let every process die, deliver the rest, and compare."""
        for writer in self.writers.values():
            assert isinstance(writer._disk, Process)
            writer._disk.die()
        for process, _ in self.shippers.values():
            process.die()
        self.rejects = False
        process = self.process(0)
        for _ in range(2):
            spool = Spool(FOLDER, self.policy, process, adopt=True)
            assert spool.try_lock()
            while spool.collect(50):
                self.send(spool, 50, "yes")
            spool.remove_delivered()
            spool.unlock()
            retry(FOLDER, process)
        left = [name for name in self.files.names if name.endswith(".seg")]
        assert left == []
        arrived = list(self.arrived.values())
        assert self.kept.keys() - set(arrived) == set()  # nothing is lost
        assert set(arrived) - self.kept.keys() <= self.perhaps  # nothing is invented
        assert len(arrived) == len(set(arrived))  # nothing arrives under a second ID
        for who in range(3):
            mine = [n for n in arrived if self.kept.get(n) == who and n not in self.out_of_turn]
            assert mine == sorted(mine)


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestModel = Model.TestCase


def play(seed: int, steps: int = 120) -> Model:
    """Play the model with a seeded random generator, and check the end."""
    dice = random.Random(seed)
    model = Model()
    model.begin(dice.choice(["true", "local"]), dice.random() < 0.5, dice.randrange(1 << 32))
    crash = [None, None, None, *range(13)]
    for _ in range(steps):
        match dice.choice(["append"] * 9 + ["ship"] * 5 + ["rest"] * 3):
            case "append":
                fault = dice.choice(["", "", "", "", "short", "space", "io"])
                model.append(dice.randrange(3), fault, dice.choice(crash))
            case "ship":
                answer = dice.choice(["yes", "yes", "part", "no", "lost"])
                fault = dice.choice(["", "", "", "io", "space"])
                model.ship(dice.randrange(2), dice.randint(1, 6), answer, fault, dice.choice(crash))
            case _:
                rest = ["die", "sync", "grow_old", "bring_back"]
                rest += ["lose_power"] if len(model.machines) == 1 else []
                match dice.choice(rest):
                    case "die":
                        model.die(dice.randrange(3))
                    case "sync":
                        model.sync(dice.randrange(2))
                    case "grow_old":
                        model.grow_old(dice.randrange(2), dice.choice([0, 1, 2, 40]))
                    case "bring_back":
                        model.bring_back(dice.choice(crash), dice.choice(["", "", "short", "io"]))
                    case _:
                        model.lose_power()
    model.teardown()
    return model


@pytest.mark.parametrize("seed", SEEDS)
def test_runs_that_once_failed_succeed(seed: int) -> None:
    """Each of these runs loses, invents and duplicates nothing."""
    assert play(seed).arrived


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(100_000, 100_100), id="a hundred"),
        pytest.param(range(100_100, 103_000), id="thousands", marks=pytest.mark.slow),
    ],
)
def test_other_runs_succeed(seeds: range) -> None:
    """Three thousand others, a hundred of which run each time, do neither."""
    assert all(play(seed).numbers for seed in seeds)


def test_a_crash_at_every_step_of_an_append_keeps_what_returned() -> None:
    """A process that is killed at any system call leaves a spool from which every returned event is read."""
    for crash_in in range(20):
        model = Model()
        model.append(0)
        for _ in range(12):
            model.append(0, crash_in=None)
        model.append(0, crash_in=crash_in)
        model.append(1, crash_in=crash_in)
        model.teardown()
        assert len(model.arrived) >= 13


def test_locks_without_exclusion_are_detected() -> None:
    """On such a file system a segment could be removed under its writer, so none is created."""
    process = Process(FileSystem("lying"), MACHINE)
    with pytest.raises(OSError, match="do not exclude other processes"):
        Segment(FOLDER, process)
    with pytest.raises(OSError, match="do not exclude other processes"):
        Spool(FOLDER, disk=process).try_lock()
    assert not [name for name in process.files.names if name.endswith(".seg")]


def test_two_machines_that_do_not_see_each_others_locks_lose_nothing() -> None:
    """While both write and ship at full rate, each delivers only its own events."""
    model = Model()
    model.begin("local", False, 0)
    for turn in range(600):
        model.append(turn % 2)
        if turn % 5 == 0:
            model.ship(turn % 2, 6)
    arrived = set(model.arrived.values())
    assert len(arrived) > 500
    model.teardown()
    assert len(model.arrived) == 600


def test_a_silent_machine_is_taken_over_once() -> None:
    """After a day without a write its events are delivered, once, and a late writer loses nothing."""
    model = Model()
    model.begin("local", False, 0)
    model.rejects = False
    for _ in range(5):
        model.append(1)
    model.ship(0, 50)
    assert model.arrived == {}
    model.files.now += 2 * DAY
    model.ship(0, 50)
    assert sorted(model.arrived.values()) == list(range(5))
    model.files.ticks = itertools.count(int(2 * DAY * 1e9))
    model.append(1)
    model.ship(1, 50)
    assert sorted(model.arrived.values()) == list(range(6))


def waiting(process: Process, folder: Path) -> list[str]:
    """Return the names of the segments in a folder."""
    names = process.files.names
    return [name for name in names if name.endswith(".seg") and Path(name).parent == folder]


def test_a_full_spool_continues_beyond_its_limit() -> None:
    """Beyond the limit events are kept in another folder, and delivered in order."""
    process = Process(FileSystem("true"), MACHINE)
    policy = POLICY._replace(max_bytes=3000)
    writer = SimulatedWriter(DESTINATION, policy, process)
    for number in range(200):
        writer.append(encode(Event("run", "k", 0, {"n": number})))
    assert (writer.overflows, writer.has_news) == (True, True)
    assert waiting_bytes(FOLDER, process) <= 3000
    assert waiting_bytes(FOLDER / OVERFLOW, process) > 3000
    shipper = Spool(FOLDER, policy, process)
    assert shipper.try_lock()
    assert shipper.is_in_use()
    first = shipper.collect(150)
    assert [record.event.data["n"] for record in first] == list(range(150))
    shipper.acknowledge(first)
    writer._look_at = 0  # a second later
    writer.append(encode(Event("run", "k", 0, {"n": 200})))
    assert (writer.overflows, writer._segment is None) == (False, False)
    assert writer._segment is not None
    assert writer._segment.path.parent == FOLDER
    rest = shipper.collect(200)
    assert [record.event.data["n"] for record in rest] == list(range(150, 201))
    shipper.acknowledge(rest)
    writer.close()
    assert not shipper.remove_delivered()
    assert not waiting(process, FOLDER)
    assert not waiting(process, FOLDER / OVERFLOW)


def test_delivered_parts_of_a_segment_do_not_count_towards_the_limit() -> None:
    """A segment that is still written has more room as its events are delivered."""
    process = Process(FileSystem("true"), MACHINE)
    policy = POLICY._replace(max_bytes=2000, segment_bytes=1 << 20)
    shipper = Spool(FOLDER, policy, process)
    assert shipper.try_lock()
    writer = SimulatedWriter(DESTINATION, policy, process)
    for number in range(200):
        writer.append(encode(Event("run", "k", 0, {"n": number})))
        shipper.acknowledge(shipper.collect(10))
    assert not writer.overflows
    assert len(waiting(process, FOLDER)) == 1


def test_some_of_the_disk_stays_free_beyond_the_limit() -> None:
    """A nearly full disk is reported by an append; events within the limit are still taken."""
    process = Process(FileSystem("true"), MACHINE)
    process.files.free = POLICY.min_free - 1
    policy = POLICY._replace(max_bytes=2000)
    writer = SimulatedWriter(DESTINATION, policy, process)
    body = encode(Event("run", "k", 0, {"n": 1}))
    taken = 0
    with suppress(SpoolFull):
        while taken < 1000:
            writer.append(body)
            taken += 1
    assert 10 < taken < 1000
    process.files.free = POLICY.min_free + 1000
    writer.append(body)
    assert writer.overflows
    process.files.free = POLICY.min_free
    spool = Spool(FOLDER, policy, process)
    assert spool.try_lock()
    spool.acknowledge(spool.collect(5))
    writer.close()
    writer.append(body)
    assert len(spool.collect(100)) == taken - 5 + 2


def test_events_set_aside_do_not_count_towards_the_limit() -> None:
    """Neither old events nor dead letters, even if many times the limit, take the room of new events."""
    process = Process(FileSystem("true"), MACHINE)
    policy = POLICY._replace(max_bytes=2000)
    writer = SimulatedWriter(DESTINATION, policy, process)
    body = encode(Event("run", "k", 0, {"n": 1}))
    for _ in range(100):
        writer.append(body)
    writer.close()
    assert len(waiting(process, FOLDER / OVERFLOW)) > 1
    shipper = Spool(FOLDER, policy, process)
    assert shipper.try_lock()
    for _ in range(50):
        for record in shipper.collect(3):
            shipper.reject(record, "no")
    process.files.now += 40 * DAY
    assert shipper.expire(30 * DAY) == 100
    assert not waiting(process, FOLDER)
    assert not waiting(process, FOLDER / OVERFLOW)
    assert waiting(process, FOLDER / ASIDE)
    later = SimulatedWriter(DESTINATION, policy, process)
    later.append(body)
    later.close()
    assert [record.event.data["n"] for record in shipper.collect(10)] == [1]
    assert not later.overflows


def test_no_dead_letter_is_ever_dropped() -> None:
    """However many there are, they are kept in files of a limited size, counted, and brought back in order."""
    process = Process(FileSystem("true"), MACHINE)
    writer = SimulatedWriter(DESTINATION, POLICY, process)
    for number in range(40):
        writer.append(encode(Event("run", "k", 0, {"n": number})))
    writer.close()
    spool = Spool(FOLDER, POLICY._replace(max_dead_letters=200), process)
    assert spool.try_lock()
    records = spool.collect(50)
    for record in records:
        spool.reject(record, "no")
    spool.acknowledge(records, len(records))
    assert spool._counts.rejected == 40
    assert _dead_letters.count(FOLDER, process) == 40
    files = [
        path for path in _dead_letters.files(FOLDER, process) if str(path) in process.files.names
    ]
    assert len(files) > 10
    assert {process.status(path).size <= POLICY.dead_letter_file for path in files} == {True}
    assert _dead_letters.size(FOLDER, process) == sum(process.status(path).size for path in files)
    assert retry(FOLDER, process) == 40
    # With their IDs.
    assert [record.event for record in spool.collect(50)] == [record.event for record in records]
