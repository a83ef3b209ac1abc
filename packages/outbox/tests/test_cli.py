"""The command `outbox`."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections_outbox import Destination, Event, Outbox, Policy, Unavailable
from mlflow_connections_outbox._cli import main

FAKE = Destination("fake", "http://fake", "a_fake_sink:make")
DOWN = Policy(shipper="thread", poll=0.01, backoff=0.01, max_backoff=0.02, patience=0.05)


@pytest.fixture
def left(fake: Any, until: Any) -> Path:
    """A spool in which a process left ten events, one of which is nonsense, while the destination was down."""
    from mlflow_connections_outbox._spool import is_locked

    fake.error = Unavailable("no route")
    outbox = Outbox(FAKE, policy=DOWN)
    for number in range(10):
        outbox.append(Event("run", "bad" if number == 4 else "metrics", 0, {"n": number}))
    outbox.close(5)
    folder = outbox.folder
    assert folder is not None
    until(lambda: not is_locked(folder))
    return folder


def test_status_shows_what_waits_and_why(left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts, the last words of the destination and the folder are shown."""
    assert main(["status"]) == 1
    shown = capsys.readouterr().out
    assert "fake at http://fake\n" in shown
    assert "waiting   10 events" in shown
    assert "delivery  unavailable: no route" in shown
    assert str(left) in shown


def test_status_speaks_json(left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for programs."""
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


def test_status_without_an_outbox(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is said to be nothing, and JSON is a list."""
    assert main(["status"]) == 0
    assert main(["status", "--output", "json"]) == 0
    assert capsys.readouterr().out == "There is no outbox.\n[]\n"


def test_ship_delivers_now(left: Path, fake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What waits is delivered in order; what is rejected is counted, and fails the command once."""
    fake.error = None
    fake.bad = {"bad"}
    assert main(["ship"]) == 1
    assert capsys.readouterr().out == "fake: 9 delivered, 0 waiting, 1 rejected\n"
    assert [event.data["n"] for event in fake.got] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert not list(left.glob("*.seg"))
    assert main(["ship", "--output", "json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown == {
        "name": "fake",
        "delivered": 0,
        "waiting": 0,
        "rejected": 0,
        "aside": 0,
        "reason": "",
    }


def test_ship_says_why_it_could_not(left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the destination down it ends in time, tells the reason and fails."""
    assert main(["ship", "--timeout", "0.3"]) == 1
    assert capsys.readouterr().out == "fake: 0 delivered, 10 waiting, 0 rejected (no route)\n"


def test_ship_waits_for_a_shipper_that_is_at_work(
    fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """While another one delivers, it hurries it and watches."""
    outbox = Outbox(FAKE, policy=Policy(shipper="thread", poll=0.01, linger=3600))
    outbox.append(Event("run", "metrics", 0, {"n": 1}))
    assert main(["ship", "--timeout", "20"]) == 0
    assert "0 waiting" in capsys.readouterr().out
    assert len(fake.got) == 1
    outbox.close()


def test_drop_asks_first(
    left: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a yes nothing is given up."""
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert main(["drop"]) == 1
    assert "Drop 10 events for fake?" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main(["drop"]) == 0
    assert capsys.readouterr().out == "fake: 10 dropped\n"
    assert not list(left.glob("*.seg"))


def test_drop_can_spare_what_waits(
    left: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--rejected` drops the dead letters alone."""
    fake.error = None
    fake.bad = {"bad"}
    main(["ship"])
    capsys.readouterr()
    assert main(["drop", "--rejected", "--yes", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "fake", "dropped": 1}]
    assert not (left / "refused.jsonl").exists()


def test_a_destination_can_be_chosen(left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--destination` looks at those of that name only."""
    assert main(["status", "--destination", "other"]) == 0
    assert capsys.readouterr().out == "There is no outbox.\n"


def test_a_foreign_spool_is_a_clear_error(left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that others may write to is not run from."""
    left.chmod(0o777)
    assert main(["status"]) == 1
    assert "must belong to you" in capsys.readouterr().out
