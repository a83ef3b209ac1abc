"""Fixtures of the outbox's tests: a separate spool, and destinations that can be inspected."""

import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import pytest

from mlflow_connections_outbox import Batch, Destination, Event, Outbox, Policy

T = TypeVar("T")
FAST = Policy(poll=0.01, linger=0.05, backoff=0.02, max_backoff=0.1, sync=0.0, exit_timeout=0.1)

FILE_SINK = '''
"""Writes events to a file; the file `faults` next to it configures faults."""
import json, os, time
from pathlib import Path
from mlflow_connections_outbox import Unauthorized, Unavailable

class FileSink:
    def __init__(self, destination, environ, state):
        self.path = Path(destination.url.removeprefix("file://"))
        self.token = environ.get("SINK_TOKEN", "")

    def send(self, events):
        fault = self.path.with_name("faults")
        words = [*(fault.read_text().split() if fault.exists() else ()), ""]
        if words[0] == "down":
            raise Unavailable("it is down")
        if words[0] == "hang":
            time.sleep(float(words[1]))
        if words[0] == "token" and words[1] != self.token:
            raise Unauthorized("a wrong token")
        lines = [{**event._asdict(), "pid": os.getpid(), "token": self.token} for event in events]
        with self.path.open("a") as file:
            file.write("".join(json.dumps(line) + "\\n" for line in lines))

    def close(self):
        pass
'''


class Fake:
    """A sink in this process that can be made to fail.

    Attributes:
        module: The unique name of its factory's module.
    """

    _numbers = itertools.count()

    def __init__(self) -> None:
        self.module = f"a_fake_sink_{next(self._numbers)}"
        self.got: list[Event] = []
        self.batches: list[int] = []
        self.error: Exception | None = None
        self.bad: set[str] = set()
        self.delay = 0.0
        self.made = 0
        self.free = threading.Event()
        self.free.set()

    def send(self, events: Batch) -> None:
        """Accept a batch, or fail as configured."""
        from mlflow_connections_outbox import Rejected

        self.free.wait(30)
        time.sleep(self.delay)
        if self.error is not None:
            raise self.error
        if any(event.kind in self.bad for event in events):
            raise Rejected("nonsense")
        self.batches.append(len(events))
        self.got.extend(events)

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the folder that holds all spools of a test."""
    folder = tmp_path / "state"
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(folder))
    return folder


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A sink in this process, reachable by the factory `a_fake_sink:make`, and by a unique one."""
    sink = Fake()

    def make(destination: Destination, environ: dict[str, str], state: Path) -> Fake:
        sink.made += 1
        return sink

    module = ModuleType("a_fake_sink")
    module.make = make  # type: ignore[attr-defined]
    sys.modules["a_fake_sink"] = sys.modules[sink.module] = module
    yield sink
    sink.free.set()
    del sys.modules["a_fake_sink"]


@pytest.fixture
def outbox(fake: Fake) -> Iterator[Outbox]:
    """An outbox that ships to the fake sink from a thread."""
    made = Outbox(
        # A shipper that starts late must not send to the next test's sink.
        Destination("fake", "http://fake", f"{fake.module}:make"),
        policy=FAST._replace(shipper="thread", idle=0.2, patience=0.2),
    )
    yield made
    fake.free.set()
    made.close()


class Arrivals:
    """The events that a file sink has received.

    Attributes:
        destination: The sink's destination.
        folder: The folder of the file and of `faults`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.destination = Destination("file", f"file://{folder / 'got.jsonl'}", "a_file_sink:make")

    def fault(self, words: str) -> None:
        """Make the sink fail from now on; without words, make it work again."""
        (self.folder / "faults").write_text(words)

    def all(self) -> list[dict[str, object]]:
        """Return everything that has arrived, in order."""
        try:
            lines = (self.folder / "got.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]

    def wait(self, count: int) -> list[dict[str, object]]:
        """Return everything once so many events have arrived, within twenty seconds."""
        return until(lambda: found if len(found := self.all()) >= count else None)


def until(look: Callable[[], T | None]) -> T:
    """Poll until the result is true, for twenty seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.01)
    raise AssertionError("It did not happen in twenty seconds.")


@pytest.fixture(name="until")
def until_fixture() -> Callable[[Callable[[], object]], object]:
    """Return `until`, which cannot be imported from this file."""
    return until


@pytest.fixture
def arrivals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arrivals:
    """A destination that any process can send to."""
    (tmp_path / "a_file_sink.py").write_text(FILE_SINK + "\nmake = FileSink\n")
    monkeypatch.syspath_prepend(tmp_path)
    return Arrivals(tmp_path)
