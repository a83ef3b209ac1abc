"""The outbox in one process, as user code sees it."""

import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections_outbox import (
    Destination,
    Event,
    Outbox,
    Policy,
    Unauthorized,
    Unavailable,
    _outbox,
    outbox_in_force,
    shared_outbox,
)
from mlflow_connections_outbox._disk import DISK
from mlflow_connections_outbox._files import create, read_destination, spool_of
from mlflow_connections_outbox._format import encode, frame
from mlflow_connections_outbox._memory import Memory
from mlflow_connections_outbox._writer import Segment, waiting_bytes
from mlflow_connections_outbox.admin import retry, waiting_events

FAKE = Destination("fake", "http://fake", "a_fake_sink:make")


def event(number: int, stream: str = "run", kind: str = "metrics") -> Event:
    """Return an event with a number."""
    return Event(stream, kind, 1_700_000_000_000 + number, {"n": number})


def remove(folder: Path) -> None:
    """Remove a folder that a shipper uses."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def numbers(events: list[Event]) -> list[int]:
    """Return the numbers of events."""
    return [each.data["n"] for each in events]


def test_appended_events_are_delivered_in_order(outbox: Outbox, fake: Any) -> None:
    """Events arrive in order, in batches of at most 500, and nothing is left on the disk."""
    for number in range(1200):
        outbox.append(event(number))
    assert outbox.flush(20) == 0
    assert numbers(fake.got) == list(range(1200))
    assert max(fake.batches) <= 500
    assert outbox.close() == 0


def test_an_event_is_on_the_disk_when_append_returns(outbox: Outbox, fake: Any) -> None:
    """Before anything is delivered, the bytes are in a private file of a private folder."""
    fake.free.clear()
    outbox.append(event(42))
    assert outbox.folder is not None
    (segment,) = outbox.folder.glob("*.seg")
    assert b'"n":42' in segment.read_bytes()
    assert segment.stat().st_mode & 0o777 == 0o600
    assert outbox.folder.stat().st_mode & 0o777 == 0o700


def test_no_secret_is_on_the_disk(fake: Any, home: Path) -> None:
    """Secrets go to the sink's factory and into no file."""
    made = Outbox(FAKE, {"TOKEN": "hunter2"}, Policy(shipper="thread"))
    made.append(event(1))
    assert made.flush(20) == 0
    made.close()
    files = [path for path in home.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"hunter2" in path.read_bytes()]


@pytest.mark.parametrize("url", ["http://me:pw@there", "http://there?token=x"])
def test_a_url_with_credentials_is_refused(url: str) -> None:
    """The URL would be written to the disk."""
    with pytest.raises(ValueError, match="pass them as secrets") as told:
        Outbox(Destination("d", url, "m:f"))
    assert "pw" not in str(told.value)


def test_append_never_raises(outbox: Outbox, fake: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An event that cannot be kept causes one warning, and the others are kept."""
    endless: dict[str, Any] = {}
    endless["self"] = endless
    for _ in range(5):
        outbox.append(Event("run", "metrics", 0, endless))
    outbox.append(event(1))
    assert outbox.flush(20) == 0
    assert numbers(fake.got) == [1]
    (told,) = caplog.messages
    assert told.startswith(
        "Keeping an event (metrics) for fake at http://fake failed (ValueError: "
    )


def test_threads_keep_the_order_of_their_streams(outbox: Outbox, fake: Any) -> None:
    """Many threads append at once; each stream arrives complete and in order."""

    def work(stream: str) -> None:
        for number in range(300):
            outbox.append(event(number, stream))

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outbox.flush(20) == 0
    for stream in map(str, range(8)):
        assert numbers([e for e in fake.got if e.stream == stream]) == list(range(300))


def test_full_segments_are_followed_by_others(fake: Any, home: Path) -> None:
    """Continuing in the next file loses nothing, and delivered ones are removed."""
    policy = Policy(shipper="thread", segment_bytes=2000, poll=0.01, linger=0.01, idle=0.2)
    made = Outbox(FAKE, policy=policy)
    for number in range(500):
        made.append(event(number))
    assert made.flush(20) == 0
    made.close()
    assert numbers(fake.got) == list(range(500))


def test_an_unavailable_destination_delays_nobody(
    outbox: Outbox, fake: Any, caplog: pytest.LogCaptureFixture, until: Callable[..., Any]
) -> None:
    """Everything waits, the user is warned once with the count, and all arrives after recovery."""
    fake.error = Unavailable("no route")
    for number in range(50):
        outbox.append(event(number))
    until(lambda: outbox.flush(0) and caplog.records)
    for number in range(50, 100):
        outbox.append(event(number))
    time.sleep(1.2)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.startswith(
        "fake at http://fake takes no events now (no route): 50 events of this process wait in "
    )
    started = time.monotonic()
    assert outbox.flush(20) == 100
    assert time.monotonic() - started < 10
    fake.error = None
    until(lambda: len(fake.got) == 100)
    assert numbers(fake.got) == list(range(100))


def test_a_refused_token_is_reported_and_loses_nothing(
    outbox: Outbox, fake: Any, caplog: pytest.LogCaptureFixture, until: Callable[..., Any]
) -> None:
    """Events wait for accepted credentials, which each attempt requests from the factory."""
    fake.error = Unauthorized("401")
    outbox.append(event(1))
    until(lambda: outbox.flush(0) and caplog.records)
    assert "does not accept the credentials (401): 1 event of this process waits" in caplog.text
    until(lambda: fake.made > 1)
    fake.error = None
    until(lambda: fake.got)


def test_rejected_events_are_kept_and_reported(
    outbox: Outbox, fake: Any, caplog: pytest.LogCaptureFixture, until: Callable[..., Any]
) -> None:
    """One faulty event of a batch goes to the dead letters, with the reason; the rest arrives."""
    fake.bad = {"bad"}
    outbox.append(event(1))
    outbox.append(event(2, kind="bad"))
    outbox.append(event(3))
    assert outbox.flush(20) == 0
    assert numbers(fake.got) == [1, 3]
    assert outbox.folder is not None
    kept = (outbox.folder / "dead_letters.jsonl").read_text()
    assert kept.count("\n") == 1
    assert '"reason": "nonsense"' in kept
    until(lambda: not outbox.flush(0) and "rejects 1 event for good (nonsense)" in caplog.text)


def test_a_flush_ends_in_time_and_is_not_repeated(outbox: Outbox, fake: Any) -> None:
    """A hanging destination is waited for once, up to the time limit, and then not again."""
    fake.free.clear()
    outbox.append(event(1))
    started = time.monotonic()
    assert outbox.flush(0.5) == 1
    first = time.monotonic() - started
    assert outbox.flush(30) == 1
    second = time.monotonic() - started - first
    assert first >= 0.5
    assert second < first + 5
    fake.free.set()
    outbox.append(event(2))
    deadline = time.monotonic() + 20
    while outbox.flush(1) and time.monotonic() < deadline:
        pass
    assert numbers(fake.got) == [1, 2]


def test_a_flush_that_insists_waits_for_a_failing_destination(
    outbox: Outbox, fake: Any, caplog: pytest.LogCaptureFixture, until: Callable[..., Any]
) -> None:
    """It returns with everything delivered, although others stop at the first failure; in vain it waits once."""
    fake.error = Unavailable("down")
    outbox.append(event(1))
    until(lambda: outbox.flush(0) and caplog.records)
    assert outbox.flush(30) == 1

    started = time.monotonic()
    assert outbox.flush(0.5, insist=True) == 1
    assert outbox.flush(60, insist=True) == 1
    assert 0.5 <= time.monotonic() - started < 30
    outbox._process.has_insisted = False

    def recover() -> None:
        fake.error = None

    threading.Timer(0.5, recover).start()
    assert outbox.flush(60, insist=True) == 0
    assert numbers(fake.got) == [1]


def test_events_beyond_the_limit_arrive_in_order(
    fake: Any, caplog: pytest.LogCaptureFixture, until: Callable[..., Any]
) -> None:
    """At its limit the spool continues beyond it, warns once, and loses nothing: all arrives in order."""
    fake.error = Unavailable("down")
    policy = Policy(
        shipper="thread",
        max_bytes=20_000,
        segment_bytes=4000,
        poll=0.01,
        backoff=0.02,
        max_backoff=0.1,
        min_free=0,
    )
    made = Outbox(FAKE, policy=policy)
    for number in range(2000):
        made.append(event(number))
    told = [
        r.message for r in caplog.records if "has reached its limit of 20,000 bytes" in r.message
    ]
    assert len(told) == 1
    assert re.search(
        r"with \d{3} events of this process waiting: further events are set aside", told[0]
    )
    assert made.folder is not None
    assert waiting_bytes(made.folder) <= 20_000
    assert waiting_bytes(made.folder / "overflow") > 50_000
    assert made.flush(0) == 2000
    fake.error = None
    until(lambda: made.flush(1) == 0)
    time.sleep(1.1)
    made.append(event(2000))
    assert len(list(made.folder.glob("*.seg"))) == 1
    until(lambda: made.flush(1) == 0)
    made.close()
    assert numbers(fake.got) == list(range(2001))
    until(lambda: not list(made.folder.rglob("*.seg")))


def test_a_nearly_full_disk_keeps_some_room(
    fake: Any, caplog: pytest.LogCaptureFixture, until: Callable[..., Any]
) -> None:
    """Beyond the limit events leave the last room of the disk free: they wait in memory, with a warning, and arrive."""
    fake.error = Unavailable("down")
    policy = Policy(
        shipper="thread",
        max_bytes=2_000,
        poll=0.01,
        backoff=0.02,
        max_backoff=0.1,
        min_free=1 << 62,
    )
    made = Outbox(FAKE, policy=policy)
    for number in range(100):
        made.append(event(number))
    assert (
        "less than 4,611,686,018,427,387,904 bytes free: events are sent from memory" in caplog.text
    )
    assert made.flush(0) == 100
    fake.error = None
    until(lambda: made.flush(1) == 0)
    made.close()
    assert numbers(fake.got) == list(range(100))


def test_many_dead_letters_are_reported(
    fake: Any, caplog: pytest.LogCaptureFixture, until: Callable[..., Any]
) -> None:
    """Rejected events beyond their limit are reported with their count and size, and none is dropped."""
    fake.bad = {"bad"}
    policy = Policy(
        shipper="thread", poll=0.01, linger=0.01, max_dead_letters=1000, dead_letter_file=500
    )
    made = Outbox(FAKE, policy=policy)
    for number in range(20):
        made.append(event(number, kind="bad"))
    assert made.flush(20) == 0
    until(lambda: not made.flush(0) and "Rejected events for fake" in caplog.text)
    assert re.search(r"take \d,\d{3} bytes in .*, including [1-9]\d* events of the", caplog.text)
    made.close()
    assert made.folder is not None
    fake.bad = set()
    assert retry(made.folder) == 20
    until(lambda: made.flush(1) == 0 and len(fake.got) == 20)


def test_old_events_are_set_aside_with_a_warning(
    fake: Any, home: Path, caplog: pytest.LogCaptureFixture, until: Callable[..., Any]
) -> None:
    """Events beyond the age limit are set aside when sending them fails again, reported, and brought back."""
    fake.error = Unavailable("down")
    slow = Policy(
        shipper="thread", poll=0.01, backoff=0.02, max_backoff=0.05, patience=0.1, max_age=1e12
    )
    before = Outbox(FAKE, policy=slow)
    before.append(event(1))
    until(lambda: before.flush(0) and caplog.records)
    before.close()
    (segment,) = home.rglob("*.seg")
    os.utime(segment, (1, 1))
    after = Outbox(FAKE, policy=slow._replace(max_age=86400.0))
    until(lambda: not is_locked(segment.parent))
    after.append(event(2))
    until(
        lambda: (
            after.flush(0)
            and "1 event was set aside after more than 1 days without fake at http://fake"
            in caplog.text
        )
    )
    fake.error = None
    until(lambda: fake.got)
    assert numbers(fake.got) == [2]
    assert [path.name for path in (segment.parent / "aside").iterdir()] == [segment.name]
    assert retry(segment.parent) == 1
    until(lambda: after.flush(1) == 0 and len(fake.got) == 2)
    assert numbers(fake.got) == [2, 1]
    after.close()


def is_locked(folder: Path) -> bool:
    """Return whether a shipper is at work."""
    from mlflow_connections_outbox._spool import is_locked as look

    return look(folder)


def test_without_a_disk_events_are_sent_from_memory(
    fake: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A spool that cannot be written causes one warning, and everything arrives in order."""
    (tmp_path / "a file").touch()
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "a file" / "below"))
    made = Outbox(FAKE, policy=Policy(poll=0.01, linger=0.01))
    for number in range(700):
        made.append(event(number))
    assert made.flush(20) == 0
    assert numbers(fake.got) == list(range(700))
    assert len({each.id for each in fake.got}) == 700
    (record,) = caplog.records
    assert "cannot be written" in record.message
    assert "events are sent from memory" in record.message


def test_the_disk_is_used_again_when_it_works(
    fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the events in memory are delivered, and a second later, events go to the disk again, in order."""
    obstacle = tmp_path / "obstacle"
    obstacle.touch()
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(obstacle / "below"))
    made = Outbox(FAKE, policy=Policy(shipper="thread", poll=0.01, linger=0.01))
    made.append(event(1))
    assert made.flush(20) == 0
    nowhere = made.folder
    assert nowhere is None
    obstacle.unlink()
    time.sleep(1.1)
    made.append(event(2))
    assert made.folder is not None
    assert made.flush(20) == 0
    made.close()
    assert numbers(fake.got) == [1, 2]


def test_memory_has_a_limit_too(
    fake: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    until: Callable[..., Any],
) -> None:
    """Without a disk and a destination, memory does not grow without limit."""
    fake.error = Unavailable("down")
    (tmp_path / "a file").touch()
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "a file" / "below"))
    made = Outbox(FAKE, policy=Policy(max_memory=2000))
    for number in range(500):
        made.append(event(number))
    assert 10 < made.flush(1) < 100
    assert "further ones are lost" in caplog.text
    fake.error = None
    until(lambda: made.flush(1) == 0)
    made.close()


def test_a_forked_child_has_its_own_outbox(outbox: Outbox, fake: Any) -> None:
    """A child's events arrive after its parent's earlier ones, and the parent's lock stays in force."""
    outbox.append(event(0))
    assert outbox.folder is not None
    (parents,) = outbox.folder.glob("*.seg")
    child = os.fork()
    if child == 0:
        try:
            outbox.append(event(1))
            mine = {path.name for path in outbox.folder.glob("*.seg")} - {parents.name}
            os._exit(0 if len(mine) == 1 else 3)
        except BaseException:  # noqa: BLE001 - a child must never go on as a test
            os._exit(4)
    assert os.waitpid(child, 0)[1] == 0
    from mlflow_connections_outbox._reader import is_alive

    assert is_alive(parents)
    outbox.append(event(2))
    assert outbox.flush(20) == 0
    deadline = time.monotonic() + 20
    while len(fake.got) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert numbers(fake.got) == [0, 1, 2]


def test_a_forked_child_does_not_hold_the_shippers_lock(
    outbox: Outbox, fake: Any, until: Callable[..., Any]
) -> None:
    """A child that lives on does not prevent shipping after its parent's shipper has ended."""
    outbox.append(event(0))
    until(lambda: fake.got)
    folder = outbox.folder
    assert folder is not None
    until(lambda: is_locked(folder))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reading, 1)
        os._exit(0)
    try:
        outbox.close()
        until(lambda: not is_locked(folder))
    finally:
        os.write(writing, b"x")
        assert os.waitpid(child, 0)[1] == 0


def test_a_signal_handler_may_append(outbox: Outbox, fake: Any) -> None:
    """A handler that interrupts an append does not deadlock."""
    sent, is_over = 0, False

    def handler(number: int, frame: object) -> None:
        nonlocal sent
        outbox.append(event(-1, "signals"))
        sent += 1
        if not is_over:
            signal.setitimer(signal.ITIMER_REAL, 0.0005)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    try:
        for number in range(5000):
            outbox.append(event(number))
    finally:
        # Done first: an alarm that arrives now would set the next one, which would not be handled.
        is_over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert sent
    assert outbox.flush(20) == 0
    assert numbers([e for e in fake.got if e.stream == "run"]) == list(range(5000))
    assert len(fake.got) == 5000 + sent


def test_an_append_inside_an_append_harms_neither(outbox: Outbox, fake: Any) -> None:
    """A handler that runs between any two steps of an append, also one that fills the segment, loses nothing."""
    inner = iter(range(1000, 2000))
    writer = outbox._process.writer
    measure = writer._room_within

    def interrupted(folder: Path, size: int) -> int:
        for _ in range(3):
            outbox.append(event(next(inner), "signals"))
        return measure(folder, size)

    writer._room_within = interrupted  # type: ignore[method-assign]
    for number in range(50):
        writer._quota = writer._room = writer._granted = 0
        outbox.append(event(number))
    assert outbox.flush(20) == 0
    assert numbers([e for e in fake.got if e.stream == "run"]) == list(range(50))
    assert numbers([e for e in fake.got if e.stream == "signals"]) == list(range(1000, 1150))


def test_a_closed_outbox_opens_again(outbox: Outbox, fake: Any) -> None:
    """After close an append works as before."""
    outbox.append(event(1))
    outbox.close(20)
    outbox.append(event(2))
    assert outbox.close(20) == 0
    assert numbers(fake.got) == [1, 2]


def test_an_invalid_variable_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid setting is reported once, and user code continues."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_SYNC_MS", "often")
    Outbox(FAKE)
    assert caplog.messages == [
        "MLFLOW_CONNECTIONS_OUTBOX_SYNC_MS must be a number of 0 or more, not 'often'; it is ignored."
    ]


def test_a_removed_folder_is_created_again(
    outbox: Outbox, fake: Any, until: Callable[..., Any]
) -> None:
    """If the spool is removed under a living process, only its content is lost."""
    fake.error = Unavailable("down")
    outbox.append(event(1))
    folder = outbox.folder
    assert folder is not None
    remove(folder)
    time.sleep(1.1)
    outbox.append(event(2))
    outbox.append(event(3))
    assert len(list(folder.glob("*.seg"))) == 1
    fake.error = None
    until(lambda: outbox.flush(1) == 0)
    assert numbers(fake.got)[-1] == 3


def test_a_clock_that_is_set_changes_nothing(
    outbox: Outbox,
    fake: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    until: Callable[..., Any],
) -> None:
    """With the wall clock years off, order, age, pauses and warnings work as before."""
    wall = time.time
    for number, years in enumerate((0, -9, +9)):
        monkeypatch.setattr(time, "time", lambda years=years: wall() + years * 31_536_000)
        if years == 9:
            fake.error = Unavailable("down")
        outbox.append(event(number))
        outbox.flush(20)
    until(lambda: outbox.flush(0) and caplog.records)
    assert "takes no events now (down)" in caplog.text
    fake.error = None
    until(lambda: outbox.flush(1) == 0)
    assert numbers(fake.got) == [0, 1, 2]


def test_a_defect_loses_no_event(
    outbox: Outbox, fake: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever an append raises, its event continues in memory, and the error is reported as a defect."""

    def broken(body: bytes) -> int:
        raise AttributeError("a bug")

    monkeypatch.setattr(outbox._process.writer, "append", broken)
    outbox.append(event(1))
    assert outbox.flush(20) == 0
    assert numbers(fake.got) == [1]
    assert "cannot be written (AttributeError: a bug)" in caplog.text


def test_a_folder_that_is_removed_takes_no_later_event(
    outbox: Outbox, fake: Any, caplog: pytest.LogCaptureFixture, until: Callable[..., Any]
) -> None:
    """Only events from before the removal are lost, not those of the next second, and the user is warned."""
    fake.error = Unavailable("down")
    for number in range(100):
        outbox.append(event(number))
    assert outbox.folder is not None
    time.sleep(0.05)
    remove(outbox.folder)
    for number in range(100, 300):
        outbox.append(event(number))
    assert outbox.flush(0.1) >= 200
    outbox.append(event(300))
    assert re.search(r"was removed with up to (9\d|100) events of this process", caplog.text)
    fake.error = None
    until(lambda: outbox.flush(1) == 0)
    assert set(range(100, 301)) <= set(numbers(fake.got))


def test_every_event_can_be_synced(fake: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `MLFLOW_CONNECTIONS_OUTBOX_SYNC_MS=event` each append syncs before it returns."""
    from mlflow_connections_outbox._disk import DISK, Disk

    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_SYNC_MS", "event")
    synced: list[int] = []
    real = DISK.sync

    def sync(self: Disk, descriptor: int) -> None:
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(Disk, "sync", sync)
    fake.free.clear()
    made = Outbox(FAKE)
    made._policy = made._policy._replace(shipper="thread")
    before = 0
    for number in range(5):
        made.append(event(number))
        assert len(synced) > before
        before = len(synced)
    fake.free.set()
    assert made.flush(20) == 0
    made.close()


def test_a_disk_error_on_sync_is_reported_and_the_event_kept_once(
    fake: Any, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An event that is written but could not be synced arrives once, with one warning."""
    from mlflow_connections_outbox._writer import Segment

    def fail(self: Segment) -> None:
        raise OSError(5, "Input/output error")

    made = Outbox(FAKE, policy=Policy(shipper="thread", sync_events=True, poll=0.01, linger=0.01))
    made.append(event(1))
    with monkeypatch.context() as patch:
        patch.setattr(Segment, "sync", fail)
        made.append(event(2))
    assert made.flush(20) == 0
    made.close()
    assert numbers(fake.got) == [1, 2]
    assert "failed to make an event for fake at http://fake durable" in caplog.text


def test_two_callers_share_an_outbox_only_with_the_same_secrets(home: Path) -> None:
    """A process has one outbox per destination and secrets."""
    from mlflow_connections_outbox import shared_outbox

    one = shared_outbox(FAKE, {"TOKEN": "a"})
    assert shared_outbox(FAKE, {"TOKEN": "a"}) is one
    assert shared_outbox(FAKE, {"TOKEN": "b"}) is not one


def test_damaged_lines_are_reported(
    fake: Any, caplog: pytest.LogCaptureFixture, until: Callable[..., Any]
) -> None:
    """Damaged lines are skipped, and the next process that writes is warned once."""
    folder = spool_of(FAKE)
    create(folder, FAKE)
    segment = Segment(folder)
    for number in range(3):
        segment.append(frame(time.monotonic_ns(), encode(event(number))))
    segment.close()
    content = segment.path.read_bytes()
    segment.path.write_bytes(content.replace(b'"n":1', b'"n":7'))
    made = Outbox(FAKE, policy=Policy(shipper="thread", poll=0.01, linger=0.01, idle=0.1))
    made.append(event(3))
    until(lambda: made.flush(1) == 0 and "cannot be read and will not be sent" in caplog.text)
    made.close()
    assert numbers(fake.got) == [0, 2, 3]
    assert caplog.text.count("1 event in") == caplog.text.count("cannot be read") == 1


@pytest.mark.parametrize("max_bytes", [1 << 30, 1000])
def test_an_event_may_be_of_any_size(
    fake: Any, max_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    """An event larger than a segment, and larger than one measurement, is on the disk like any other."""
    policy = Policy(shipper="thread", poll=0.01, linger=0.01, max_bytes=max_bytes, min_free=0)
    made = Outbox(FAKE, policy=policy)
    fake.free.clear()
    for number in range(3):
        made.append(Event("run", "k", 0, {"n": number, "pad": "x" * (5 << 20)}))
    assert made.folder is not None
    assert sum(path.stat().st_size for path in made.folder.rglob("*.seg")) > 15 << 20
    assert "memory" not in caplog.text
    # More than the limit of a batch.
    assert numbers(waiting_events(made.folder)) == [0, 1, 2]
    fake.free.set()
    assert made.flush(20) == 0
    made.close()
    assert numbers(fake.got) == [0, 1, 2]


def test_a_spool_may_be_created_concurrently(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread or a signal handler that creates the spool during its creation does no harm."""
    folder = spool_of(FAKE)
    rename = DISK.rename
    inner = iter(range(3))

    def interrupted(before: Any, after: Any) -> None:
        for _ in inner:
            create(folder, FAKE)
        rename(before, after)

    monkeypatch.setattr(DISK, "rename", interrupted, raising=False)
    create(folder, FAKE)
    assert read_destination(folder) == FAKE
    assert [path.name for path in folder.iterdir()] == ["destination.json"]


def test_memory_accepts_events_while_it_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Appending while another thread sends blocks nothing, and loses nothing."""
    memory = Memory(lambda: fake_sink, Policy(), lambda: False, lambda _: None)
    fake_sink: Any = None
    for number in range(3):
        assert memory.append(encode(event(number)))
    loads = json.loads

    class Appending:
        @staticmethod
        def loads(body: bytes) -> Any:
            memory.append(encode(event(len(memory))))
            return loads(body)

    monkeypatch.setattr("mlflow_connections_outbox._memory.json", Appending)
    monkeypatch.setattr(memory, "_may_send", lambda: True)
    records = memory.collect(10)
    assert [record.event.data["n"] for record in records] == [0, 1, 2]
    memory.acknowledge(records)
    assert len(memory) == 3
    monkeypatch.undo()
    monkeypatch.setattr(memory, "_may_send", lambda: True)
    assert [record.event.data["n"] for record in memory.collect(10)] == [3, 4, 5]


def test_many_threads_may_append_to_memory(
    fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a disk each event of many threads arrives once, while others are sent."""
    (tmp_path / "a file").touch()
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "a file" / "below"))
    made = Outbox(FAKE, policy=Policy(poll=0.0, linger=0.0, batch=50))

    def work(stream: str) -> None:
        for number in range(1000):
            made.append(event(number, stream))

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while made.flush(20):
        pass
    made.close()
    for stream in map(str, range(4)):
        assert numbers([e for e in fake.got if e.stream == stream]) == list(range(1000))
    assert made._process.memory._bytes == 0


def test_the_shared_outbox_follows_the_variable_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each folder has an outbox, and the earlier one is used again with the earlier value."""
    destination = FAKE
    opened: list[Outbox] = []

    def open_outbox() -> Outbox:
        opened.append(shared_outbox(destination, {}))
        return opened[-1]

    in_force = outbox_in_force(open_outbox)
    first = in_force()
    assert in_force() is first
    before = os.environ["MLFLOW_CONNECTIONS_OUTBOX_DIR"]
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "other"))
    second = in_force()
    assert second is not first
    assert second.state.is_relative_to(tmp_path / "other")
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", before)
    assert in_force() is first
    assert len(opened) == 3


def test_ctrl_c_ends_the_wait_at_the_end_of_the_process(
    fake: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody sees a traceback or waits again, and the events that wait are named."""
    fake.free.clear()
    outbox = Outbox(FAKE, policy=Policy(shipper="thread", poll=0.01, exit_timeout=60))
    outbox.append(event(1))
    monkeypatch.setattr(_outbox, "_living", [outbox])
    main = threading.main_thread().ident
    assert main is not None

    def is_waiting() -> bool:
        frame = sys._current_frames()[main]
        while frame.f_back is not None and frame.f_code.co_name != "_wait":
            frame = frame.f_back
        return frame.f_code.co_name == "_wait"

    def interrupt() -> None:
        while not is_waiting():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    # A shell ignores the signal for the programs that it starts in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        _outbox._at_exit()
        assert "1 event waits for fake" in caplog.text
        # Another handler of the same end does not wait for them again.
        began = time.monotonic()
        assert outbox.flush(60, insist=True) == 1
        assert time.monotonic() - began < 30
    finally:
        signal.signal(signal.SIGINT, before)
        fake.free.set()
