"""The command `outbox`."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections_outbox import (
    Destination,
    Event,
    Outbox,
    Policy,
    Unavailable,
    _status,
    admin,
)
from mlflow_connections_outbox._cli import main
from mlflow_connections_outbox._files import read_destination
from mlflow_connections_outbox._spool import is_locked, request_end
from mlflow_connections_outbox.admin import waiting_events

FAKE = Destination("fake", "http://fake", "a_fake_sink:make")
DOWN = Policy(shipper="thread", poll=0.01, backoff=0.01, max_backoff=0.02, patience=0.05)

WRITE_AND_END = """
import os, sys, time
from mlflow_connections_outbox import Destination, Event, Outbox, Policy
from mlflow_connections_outbox._spool import is_locked
outbox = Outbox(Destination("file", sys.argv[1], "a_file_sink:make"), policy=Policy(poll=0.01))
outbox.append(Event("run", "metrics", 0, {"n": 1}))
print(outbox.folder, flush=True)
while not is_locked(outbox.folder):
    time.sleep(0.01)
os._exit(0)
"""


@pytest.fixture
def left(fake: Any, until: Any) -> Path:
    """A spool in which a process left ten events, one of them invalid, while the destination was down."""
    fake.error = Unavailable("no route")
    outbox = Outbox(FAKE, policy=DOWN)
    for number in range(10):
        outbox.append(Event("run", "bad" if number == 4 else "metrics", 0, {"n": number}))
    outbox.close(5)
    folder = outbox.folder
    assert folder is not None
    until(lambda: not is_locked(folder))
    return folder


def test_status_shows_waiting_events_and_the_reason(
    left: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts, the destination's last reason and the folder are shown."""
    assert main(["status"]) == 1
    shown = capsys.readouterr().out
    assert "fake at http://fake\n" in shown
    assert "waiting   10 events" in shown
    assert "delivery  unavailable: no route" in shown
    assert str(left) in shown


def test_status_prints_json(left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same information is available to programs."""
    assert main(["status", "--output", "json"]) == 1
    (shown,) = json.loads(capsys.readouterr().out)
    assert {key: shown[key] for key in ("name", "url", "events", "rejected", "writers")} == {
        "name": "fake",
        "url": "http://fake",
        "events": 10,
        "rejected": 0,
        "writers": 0,
    }
    assert shown["state"] == "unavailable"
    assert shown["shipping"] is False


def test_status_shows_the_time_of_the_oldest_event(
    fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Later events do not make the wait appear shorter."""
    fake.error = Unavailable("no route")
    outbox = Outbox(FAKE, policy=DOWN)
    begun = 1_700_000_000
    for seconds in (0, 3600):
        outbox.append(Event("run", "metrics", (begun + seconds) * 1000, {}))
    outbox.close(5)
    assert main(["status", "--output", "json"]) == 1
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown["oldest"] == begun
    assert main(["status"]) == 1
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(begun))
    assert f", the oldest since {moment}\n" in capsys.readouterr().out


def test_status_without_an_outbox(capsys: pytest.CaptureFixture[str]) -> None:
    """Without an outbox one sentence is printed, and JSON is an empty list."""
    assert main(["status"]) == 0
    assert main(["status", "--output", "json"]) == 0
    assert capsys.readouterr().out == "There is no outbox.\n[]\n"


def test_ship_delivers_now(left: Path, fake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Waiting events are delivered in order; rejected ones are counted, and named where they are."""
    fake.error = None
    fake.bad = {"bad"}
    assert main(["ship"]) == 1
    assert capsys.readouterr().out == (
        "fake: 9 delivered, 0 waiting, 1 rejected\n"
        f"  1 rejected event is kept, with the reason, in {left / 'dead_letters.jsonl'}: `mlflow-connections "
        "outbox retry` queues it again, and `drop --rejected` deletes it\n"
    )
    assert [event.data["n"] for event in fake.got] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert not list(left.glob("*.seg"))
    assert main(["drop", "--rejected", "--yes"]) == 0
    capsys.readouterr()
    assert main(["ship", "--output", "json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown == {
        "name": "fake",
        "url": "http://fake",
        "folder": str(left),
        "delivered": 0,
        "waiting": 0,
        "rejected": 0,
        "aside": 0,
        "reason": "",
        "dead_letters": 0,
    }


def test_ship_fails_as_long_as_rejected_events_are_kept(
    fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A CI job learns of events that the shipper in the background had rejected before."""
    fake.bad = {"bad"}
    outbox = Outbox(FAKE, policy=Policy(shipper="thread", poll=0.01))
    outbox.append(Event("run", "bad", 0, {"n": 4}))
    outbox.close(20)
    left = outbox.folder
    assert left is not None
    assert main(["ship"]) == 1
    told, where, *_ = capsys.readouterr().out.splitlines()
    assert told == "fake: 0 delivered, 0 waiting, 0 rejected"
    assert where.startswith("  1 rejected event is kept, with the reason, in ")
    assert main(["ship", "--output", "json"]) == 1
    (shown,) = json.loads(capsys.readouterr().out)
    assert (shown["rejected"], shown["dead_letters"]) == (0, 1)
    full = left / "dead_letters.1.jsonl"
    full.write_bytes((left / "dead_letters.jsonl").read_bytes())
    assert main(["ship"]) == 1
    assert f"2 rejected events are kept, with the reason, in {left / 'dead_letters*.jsonl'}: " in (
        capsys.readouterr().out
    )
    fake.bad = set()
    assert main(["retry"]) == 1
    assert main(["ship"]) == 0
    assert fake.got[-1].data["n"] == 4


def test_ship_reports_why_it_failed(left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If the destination is down it ends in time, prints the reason and fails."""
    assert main(["ship", "--timeout", "0.3"]) == 1
    assert capsys.readouterr().out == "fake: 0 delivered, 10 waiting, 0 rejected (no route)\n"


def test_ship_waits_for_a_running_shipper(fake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """While another process delivers, it requests a flush and watches."""
    outbox = Outbox(FAKE, policy=Policy(shipper="thread", poll=0.01, linger=3600))
    outbox.append(Event("run", "metrics", 0, {"n": 1}))
    assert main(["ship", "--timeout", "20"]) == 0
    assert "0 waiting" in capsys.readouterr().out
    assert len(fake.got) == 1
    outbox.close()


def test_drop_asks_first(
    left: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a confirmation nothing is dropped."""
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert main(["drop"]) == 1
    assert "Drop 10 events for fake?" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main(["drop"]) == 0
    assert capsys.readouterr().out == "fake: 10 dropped\n"
    assert not list(left.glob("*.seg"))


def test_drop_asks_nothing_if_nothing_is_dropped(
    left: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """An outbox whose events have all been delivered needs no confirmation."""
    fake.error = None
    assert main(["ship"]) == 0
    capsys.readouterr()
    assert main(["drop"]) == 0
    assert capsys.readouterr() == ("fake: 0 dropped\n", "")


def test_outboxes_of_one_name_are_distinguished(
    left: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """If two destinations have the same name, each line has the address too."""
    fake.error = None
    assert main(["ship"]) == 0
    assert capsys.readouterr().out == "fake: 10 delivered, 0 waiting, 0 rejected\n"
    other = FAKE._replace(url=f"{FAKE.url}/other")
    outbox = Outbox(other, policy=Policy(shipper="none"))
    outbox.append(Event("run", "metrics", 0, {"n": 1}))
    outbox.close()
    assert main(["ship"]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == [
        f"fake at {FAKE.url}/other: 1 delivered, 0 waiting, 0 rejected",
        f"fake at {FAKE.url}: 0 delivered, 0 waiting, 0 rejected",
    ]
    assert main(["retry"]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == [
        f"fake at {FAKE.url}/other: 0 wait again",
        f"fake at {FAKE.url}: 0 wait again",
    ]


def test_drop_can_keep_waiting_events(
    left: Path, fake: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--rejected` drops only the dead letters, and the sink removes their data."""
    forgotten: list[Any] = []
    module = sys.modules[read_destination(left).sink.partition(":")[0]]
    monkeypatch.setattr(
        module, "forget_dropped", lambda state, events: forgotten.append(events), raising=False
    )
    fake.error = None
    fake.bad = {"bad"}
    main(["ship"])
    capsys.readouterr()
    assert main(["drop", "--rejected", "--yes", "--output", "json"]) == 0
    (dropped,) = json.loads(capsys.readouterr().out)
    assert dropped == {"name": "fake", "url": "http://fake", "folder": str(left), "dropped": 1}
    assert not (left / "refused.jsonl").exists()
    assert [len(events) for events in forgotten] == [1]
    assert main(["drop", "--yes"]) == 0
    assert forgotten[1] is None


def test_destinations_of_one_kind_can_be_chosen(tmp_path: Path) -> None:
    """The first word of a name chooses all that begin with it."""
    destination = Destination("mirror of http://a", "http://c", "m:f")
    report = admin.Report(destination, tmp_path / "mirror-of-http-a-0123")
    for named in ("mirror of http://a", "mirror", "http://c", "mirror-of-http-a-0123"):
        assert report.is_named(named)
    for named in ("mirror of", "http://a", "", "mirror of http://b"):
        assert not report.is_named(named)


def test_a_destination_can_be_chosen(left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--destination` takes its name, its URL, or the folder of its outbox."""
    assert main(["status", "--destination", "other"]) == 0
    assert capsys.readouterr().out == "There is no outbox.\n"
    for named in ("fake", "http://fake", left.name, str(left)):
        assert main(["status", "--destination", named]) == 1
        assert "waiting   10 events" in capsys.readouterr().out


@pytest.fixture
def two_servers(arrivals: Any, tmp_path: Path) -> list[Path]:
    """The folders of two destinations of one name, for each of which an event waits."""
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
        to = arrivals.destination._replace(url=f"file://{folder / 'got.jsonl'}")
        outbox = Outbox(to, policy=DOWN._replace(shipper="none"))
        outbox.append(Event("run", "metrics", 0, {"for": folder.name}))
        outbox.close(0)
    return folders


def test_each_destination_is_shipped_to_by_a_process_of_its_own(
    two_servers: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The environment and the clients of one are never those of the other."""
    assert main(["ship"]) == 0
    got = [json.loads((folder / "got.jsonl").read_text()) for folder in two_servers]
    assert [event["data"] for event in got] == [{"for": "first"}, {"for": "second"}]
    assert len({os.getpid(), *(event["pid"] for event in got)}) == 3
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(
        f"file at file://{folder / 'got.jsonl'}: 1 delivered, 0 waiting, 0 rejected"
        for folder in two_servers
    )


def test_what_waits_for_two_servers_is_not_shipped_to_a_third(
    two_servers: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--to` takes one destination, even if others have the same name."""
    third = tmp_path / "third"
    third.mkdir()
    to = ("--to", f"file://{third / 'got.jsonl'}")
    assert main(["ship", *to]) == 1
    assert "--to needs one destination" in capsys.readouterr().err
    assert main(["ship", *to, "--destination", f"file://{two_servers[1] / 'got.jsonl'}"]) == 0
    assert json.loads((third / "got.jsonl").read_text())["data"] == {"for": "second"}


@pytest.fixture
def outlived(arrivals: Any, until: Any) -> Iterator[Path]:
    """A spool whose writer has ended, with a shipper that waits for its destination to return."""
    arrivals.fault("down")
    written = subprocess.run(
        [sys.executable, "-c", WRITE_AND_END, arrivals.destination.url],
        env={**os.environ, "PYTHONPATH": str(arrivals.folder)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    folder = Path(written.stdout.strip())
    until(lambda: is_locked(folder) and _status.read(folder).state == _status.UNAVAILABLE)
    yield folder
    request_end(folder)


def test_drop_ends_a_shipper_that_waits_for_nothing_but_its_destination(
    outlived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody has to wait until the shipper of an ended process ends by itself."""
    assert main(["drop", "--yes"]) == 0
    assert capsys.readouterr().out == "file: 1 dropped\n"
    assert not list(outlived.glob("*.seg"))


def test_another_destination_takes_over_from_a_waiting_shipper(
    outlived: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the end of a training, `--to` moves what waits at once."""
    other = tmp_path / "other"
    other.mkdir()
    named = ("--destination", str(outlived), "--to", f"file://{other / 'got.jsonl'}")
    assert main(["ship", *named]) == 0
    assert capsys.readouterr().out == "file: 1 delivered, 0 waiting, 0 rejected\n"
    assert json.loads((other / "got.jsonl").read_text())["data"] == {"n": 1}


@pytest.mark.parametrize("command", ["drop --yes", "ship --to http://other"])
def test_what_a_process_still_writes_is_left_to_its_shipper(
    command: str, fake: Any, until: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither is it dropped nor sent elsewhere, and the error names what to do."""
    fake.error = Unavailable("no route")
    outbox = Outbox(FAKE, policy=DOWN)
    outbox.append(Event("run", "metrics", 0, {"n": 1}))
    folder = outbox.folder
    assert folder is not None
    until(lambda: is_locked(folder))
    assert main([*command.split(), "--destination", "fake"]) == 1
    assert "still write to" in "".join(capsys.readouterr())
    assert waiting_events(folder)
    outbox.close(0)
    until(lambda: not is_locked(folder))


def test_a_foreign_spool_is_a_clear_error(left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Code is not run from a folder that others may write to."""
    left.chmod(0o777)
    assert main(["status"]) == 1
    assert "must belong to you" in capsys.readouterr().out


@pytest.fixture
def rejected(left: Path, fake: Any, capsys: pytest.CaptureFixture[str]) -> Path:
    """The same spool after shipping: nine events were delivered, one is a dead letter."""
    fake.error = None
    fake.bad = {"bad"}
    assert main(["ship"]) == 1
    capsys.readouterr()
    return left


def test_rejected_events_can_be_sent_again(
    rejected: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the destination was fixed, `retry` brings a dead letter back under its ID."""
    first = {event.id for event in fake.got}
    fake.bad = set()
    assert main(["retry"]) == 1
    assert capsys.readouterr().out.startswith("fake: 1 wait again;")
    assert main(["ship"]) == 0
    assert capsys.readouterr().out == "fake: 1 delivered, 0 waiting, 0 rejected\n"
    assert fake.got[-1].data["n"] == 4
    assert fake.got[-1].id not in first
    assert main(["retry"]) == 0
    assert main(["status"]) == 0
    assert "delivered 10 events" in capsys.readouterr().out


def test_a_wrong_token_deletes_no_old_events(
    left: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shipping old events with refused credentials keeps them, and fails."""
    from mlflow_connections_outbox import Unauthorized

    for segment in left.glob("*.seg"):
        os.utime(segment, (1, 1))
    fake.error = Unauthorized("401")
    assert main(["ship", "--timeout", "2"]) == 1
    assert capsys.readouterr().out == "fake: 0 delivered, 10 waiting, 0 rejected (401)\n"
    fake.error = None
    assert main(["ship"]) == 0
    assert len(fake.got) == 10


def test_a_foreign_folder_does_not_hide_the_others(
    left: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A spool that others may write to is reported with its problem; the rest is shown and shipped."""
    foreign = left.parent / "foreign"
    foreign.mkdir()
    (foreign / "destination.json").write_text("{}")
    foreign.chmod(0o777)
    damaged = left.parent / "damaged"
    damaged.mkdir(mode=0o700)
    (damaged / "destination.json").write_text("{}")
    assert main(["status"]) == 1
    shown = capsys.readouterr().out
    assert "must belong to you" in shown
    assert "does not describe a destination" in shown
    assert "waiting   10 events" in shown
    fake.error = None
    assert main(["ship"]) == 1
    told = capsys.readouterr()
    assert told.out == "fake: 10 delivered, 0 waiting, 0 rejected\n"
    assert "must belong to you" in told.err
    for words in (["retry"], ["drop", "--yes"]):
        assert main([*words, "--output", "json"]) == 1
        told = capsys.readouterr()
        results = {each["name"]: each for each in json.loads(told.out)}
        assert "must belong to you" in results["foreign"]["problem"]
        assert "does not describe a destination" in results["damaged"]["problem"]
        done = "retried" if words == ["retry"] else "dropped"
        assert set(results["fake"]) == {"name", "url", "folder", done}
        assert "must belong to you" in told.err


def test_an_unreadable_folder_is_named(
    left: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's unreadable folder is reported and does not affect the others."""
    foreign = left.parent / "foreign"
    foreign.mkdir(mode=0o700)
    looks, belongs = Path.exists, Path.stat

    def exists(self: Path, **more: Any) -> bool:
        if self.parent == foreign:
            raise PermissionError(13, "Permission denied", str(self))
        return looks(self, **more)

    def stat(self: Path, **more: Any) -> os.stat_result:
        found = belongs(self, **more)
        if self == foreign:
            return os.stat_result((found.st_mode, 0, 0, 1, found.st_uid + 1, 0, 0, 0, 0, 0))
        return found

    monkeypatch.setattr(Path, "exists", exists)
    monkeypatch.setattr(Path, "stat", stat)
    assert main(["status"]) == 1
    shown = capsys.readouterr().out
    assert f"{foreign} must belong to you" in shown
    assert "waiting   10 events" in shown


def test_damaged_lines_are_counted(
    left: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damaged lines are reported before and after the rest is delivered."""
    segment = next(left.glob("*.seg"))
    content = segment.read_bytes()
    place = content.index(b'"n":7')
    segment.write_bytes(content[:place] + b'"n":8' + content[place + 5 :])
    assert main(["status"]) == 1
    assert "damaged   1 lines" in capsys.readouterr().out
    fake.error = None
    main(["ship"])
    assert main(["status", "--output", "json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert (shown["damaged"], shown["delivered"], shown["events"]) == (1, 9, 0)


def test_events_beyond_the_limit_are_counted(fake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A full outbox continues beyond its limit, and the command prints the number of events there."""
    fake.error = Unavailable("down")
    outbox = Outbox(FAKE, policy=DOWN._replace(max_bytes=2_000, min_free=0))
    for number in range(100):
        outbox.append(Event("run", "metrics", 0, {"n": number}))
    assert outbox.close(0.1) == 100
    assert main(["status", "--output", "json"]) == 1
    (shown,) = json.loads(capsys.readouterr().out)
    assert (shown["events"], shown["not_taken"]) == (100, 0)
    assert 20 < shown["overflow"] < 90
    assert main(["status"]) == 1
    assert (
        f"overflow  {shown['overflow']} of these events, beyond the limit"
        in capsys.readouterr().out
    )
    fake.error = None
    assert main(["ship"]) == 0
    assert [event.data["n"] for event in fake.got] == list(range(100))
    capsys.readouterr()
    assert main(["status", "--output", "json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert (shown["overflow"], shown["delivered"]) == (0, 100)


def test_events_without_room_are_counted(
    fake: Any, capsys: pytest.CaptureFixture[str], until: Any
) -> None:
    """With neither disk nor memory left, new events are lost, and the command counts them."""
    fake.error = Unavailable("down")
    policy = DOWN._replace(max_bytes=2_000, min_free=1 << 62, max_memory=500)
    outbox = Outbox(FAKE, policy=policy)
    for number in range(100):
        outbox.append(Event("run", "metrics", 0, {"n": number}))
    left = outbox.close(0.1)
    assert 5 < left < 100
    assert main(["status"]) == 1
    assert f"lost      {100 - left} events, for which there was no room" in capsys.readouterr().out
    main(["status", "--output", "json"])
    (shown,) = json.loads(capsys.readouterr().out)
    assert 0 < left - shown["events"] < 20, "some wait in memory"
    assert shown["not_taken"] == 100 - left
    fake.error = None
    until(lambda: outbox.close(1) == 0)


def test_counts_of_another_version_are_read(left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A newer version may have counted more, and an older one other things: known counts stay."""
    (left / "counts.json").write_text('{"delivered": 5, "dropped": 3, "beyond": 1}')
    (left / "status.json").write_text('{"state": "unavailable", "reason": "so", "mood": "bad"}')
    assert main(["status"]) == 1
    shown = capsys.readouterr().out
    assert "delivered 5 events" in shown
    assert "unavailable: so" in shown


def test_status_watches_until_nothing_waits(
    left: Path, fake: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--watch` shows the outboxes repeatedly, and ends when everything is delivered."""

    class Clock:
        strftime, localtime, monotonic = time.strftime, time.localtime, time.monotonic

        @staticmethod
        def sleep(seconds: float) -> None:
            assert seconds == 0.5
            fake.error = None
            assert main(["ship"]) == 0

    monkeypatch.setattr("mlflow_connections_outbox._cli.time", Clock)
    assert main(["status", "--watch", "0.5"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("waiting   10 events") < shown.index("waiting   0 events")


def test_a_send_that_hangs_is_shown(
    fake: Any, capsys: pytest.CaptureFixture[str], until: Any
) -> None:
    """While the destination does not respond, the status shows the beginning of the wait."""
    fake.free.clear()
    outbox = Outbox(FAKE, policy=DOWN._replace(linger=0.0))
    outbox.append(Event("run", "metrics", 0, {"n": 1}))

    def shown() -> str:
        main(["status"])
        return capsys.readouterr().out

    until(lambda: "delivery  waiting for a response since 20" in shown())
    fake.free.set()
    assert outbox.close(20) == 0
    assert "delivery  ok" in shown()


def test_the_command_is_a_part_of_mlflow_connections(left: Path) -> None:
    """`mlflow-connections outbox` is this command, with its exit codes."""
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "mlflow_connections", "outbox", "status", "--output", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (shown,) = json.loads(done.stdout)
    assert shown["events"] == 10
