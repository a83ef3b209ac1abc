"""The outbox between real processes and a real HTTP server, any of which may die or fail at any moment."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections_outbox import Destination, Event, Outbox, Policy, admin
from mlflow_connections_outbox.testing import FaultServer

SINK = '''
"""Posts events to an HTTP server with the standard library."""
import json, os, urllib.error, urllib.request
from mlflow_connections_outbox import Rejected, Unauthorized, Unavailable

class HttpSink:
    def __init__(self, destination, environ, state):
        self.url = destination.url
        self.token = environ.get("SINK_TOKEN", "")

    def send(self, events):
        request = urllib.request.Request(
            self.url,
            data=json.dumps([event._asdict() for event in events]).encode(),
            headers={"Authorization": "Bearer " + self.token, "X-Pid": str(os.getpid())},
        )
        try:
            with urllib.request.urlopen(request, timeout=3) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise Unauthorized("401") from None
            if error.code == 429 or error.code >= 500:
                after = error.headers.get("Retry-After")
                raise Unavailable(str(error.code), after and float(after)) from None
            raise Rejected(str(error.code)) from None
        except OSError as error:
            raise Unavailable(type(error).__name__) from None

    def close(self):
        pass
'''

WRITER = """
import os, sys, time
from mlflow_connections_outbox import Destination, Event, Outbox, Policy
url, name, returned, segment_bytes = sys.argv[1:]
policy = Policy(poll=0.01, linger=0.02, backoff=0.02, max_backoff=0.1, patience=1.0)
outbox = Outbox(
    Destination("http", url, "an_http_sink:HttpSink"),
    policy=policy._replace(segment_bytes=int(segment_bytes)),
)
note = os.open(returned, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for number in range(10**9):
    outbox.append(Event(name, "metrics", number, {"n": number, "pad": "x" * (number % 200)}))
    outbox.append(Event("shared", "metrics", number, {"n": number, "by": name}))
    os.write(note, b"%d\\n" % number)
    if number % 20 == 0:
        time.sleep(0.001)
"""


class Receiver:
    """An HTTP server that keeps accepted events.

    Attributes:
        url: Its address.
        got: The events of accepted requests, in order of arrival.
        pids: The processes that sent.
        mode: Its treatment of a request: `ok`, a status, `hang`, `slow`, `cut`, `lie` (accepts, and
            cuts the response) or `flaky` (any of them).
    """

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.pids: list[int] = []
        self.mode = "ok"
        self.token = ""
        self.requests = 0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Listen, on the same port as before."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.answer(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request with the configured response."""
        body = request.rfile.read(int(request.headers["Content-Length"]))
        self.requests += 1
        mode = self.mode
        if mode == "flaky":
            mode = random.choice(["ok", "ok", "ok", "500", "cut", "lie"])
        if self.token and request.headers["Authorization"] != f"Bearer {self.token}":
            mode = "401"
        if mode == "hang":
            time.sleep(6)
            return
        if mode == "slow":
            time.sleep(1)
        if mode == "cut":
            request.close_connection = True
            return
        if mode.isdigit():
            request.send_response(int(mode))
            request.end_headers()
            return
        with self._lock:
            self.got += json.loads(body)
            self.pids.append(int(request.headers["X-Pid"]))
        if mode != "lie":
            request.send_response(200)
            request.end_headers()

    def streams(self) -> dict[str, list[dict[str, Any]]]:
        """Return the events by stream, without repetitions, which have the ID of the first."""
        seen: set[str] = set()
        found: dict[str, list[dict[str, Any]]] = {}
        for event in list(self.got):
            if event["id"] not in seen:
                seen.add(event["id"])
                found.setdefault(event["stream"], []).append(event)
        return found


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """An HTTP server, and a sink module that any process can import."""
    (tmp_path / "an_http_sink.py").write_text(SINK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "state"))
    server = Receiver()
    yield server
    server.stop()


def ship_the_rest() -> None:
    """Deliver the rest as the command does, while it makes progress."""
    left = 0
    while waiting := sum(report.content.events for report in admin.reports()):
        assert waiting != left, f"{waiting} events still wait."
        left = waiting
        for report in admin.reports():
            admin.ship(report.folder, 10, lambda *_: None)


def kill_writers_and_shippers(receiver: Receiver, folder: Path, times: int) -> None:
    """Run four writers repeatedly, and kill everything at random moments."""
    dice = random.Random(times)
    receiver.mode = "flaky"
    for turn in range(times):
        segment_bytes = dice.choice([2_000, 100_000, 1 << 22])
        writers = [
            subprocess.Popen(
                [
                    *(sys.executable, "-c", WRITER, receiver.url, f"{turn}-{n}"),
                    *(str(folder / f"returned-{turn}-{n}"), str(segment_bytes)),
                ],
                stderr=subprocess.PIPE,
            )
            for n in range(4)
        ]
        first = folder / f"returned-{turn}-{dice.randrange(4)}"
        while not first.exists() and all(writer.poll() is None for writer in writers):
            time.sleep(0.001)
        for writer in dice.sample(writers, 4):
            time.sleep(dice.random() * 0.05)
            if receiver.pids and dice.random() < 0.1:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(receiver.pids[-1], signal.SIGKILL)
            writer.kill()
        for writer in writers:
            _, errors = writer.communicate()
            assert b"Traceback" not in errors, errors.decode()
    receiver.mode = "ok"


def check_everything_arrived(receiver: Receiver, folder: Path) -> int:
    """Compare the received events with those that each writer recorded after its append returned."""
    streams = receiver.streams()
    total = 0
    shared: dict[str, list[int]] = {}
    for event in streams.get("shared", []):
        shared.setdefault(event["data"]["by"], []).append(event["data"]["n"])
    for note in folder.glob("returned-*"):
        name = note.name.removeprefix("returned-")
        returned = note.read_bytes().count(b"\n")
        for arrived in (
            [event["data"]["n"] for event in streams.get(name, [])],
            shared.get(name, []),
        ):
            # One more event may have arrived: on the disk, but killed before append returned.
            assert len(arrived) in {returned, returned + 1}, (name, returned, len(arrived))
            assert arrived == list(range(len(arrived)))
            total += len(arrived)
    return total


def test_kill_9_at_ten_moments_loses_nothing(receiver: Receiver, tmp_path: Path) -> None:
    """Writers and shippers die at random; each event whose append returned arrives, in order, once by ID."""
    kill_writers_and_shippers(receiver, tmp_path, 10)
    ship_the_rest()
    assert check_everything_arrived(receiver, tmp_path) > 100


@pytest.mark.slow
def test_kill_9_at_a_hundred_moments_loses_nothing(receiver: Receiver, tmp_path: Path) -> None:
    """The same, a hundred times in one spool."""
    kill_writers_and_shippers(receiver, tmp_path, 100)
    ship_the_rest()
    total = check_everything_arrived(receiver, tmp_path)
    print(f"{total:,} events, {len(receiver.got):,} received, {receiver.requests:,} requests")
    assert total > 1000


def test_a_killed_trainer_is_shipped_by_its_shipper(receiver: Receiver, tmp_path: Path) -> None:
    """After `kill -9` of the only writer, its shipper delivers everything and ends."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, receiver.url, "0", str(tmp_path / "returned-0"), "1000000"]
    )
    while not receiver.got:
        time.sleep(0.01)
    writer.kill()
    writer.wait()
    deadline = time.monotonic() + 20
    folder = next((tmp_path / "state").iterdir())
    while list(folder.glob("*.seg")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert check_everything_arrived(receiver, tmp_path) > 0
    pid = receiver.pids[-1]
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie, which nothing in a container may reap."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


POLICY = Policy(poll=0.01, linger=0.05, backoff=0.05, max_backoff=0.2, exit_timeout=0.1)


@pytest.mark.parametrize(
    "fault", ["stopped", "hang", "slow", "500", "503", "429", "401", "cut", "lie", "flaky"]
)
def test_a_fault_loses_nothing(
    receiver: Receiver, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """During any fault appends continue, and afterwards every event arrives in order, once by ID."""
    outbox = Outbox(Destination("http", receiver.url, "an_http_sink:HttpSink"), {}, POLICY)
    for number in range(300):
        outbox.append(Event("run", "metrics", number, {"n": number}))
    assert outbox.flush(20) == 0
    if fault == "stopped":
        receiver.stop()
    elif fault == "401":
        receiver.token = "another"
    else:
        receiver.mode = fault
    for number in range(300, 3000):
        outbox.append(Event("run", "metrics", number, {"n": number}))
    outbox.flush(2)
    if fault == "stopped":
        receiver.start()
    receiver.token, receiver.mode = "", "ok"
    deadline = time.monotonic() + 40
    while outbox.flush(1) and time.monotonic() < deadline:
        time.sleep(0.05)
    arrived = [event["data"]["n"] for event in receiver.streams()["run"]]
    assert arrived == list(range(3000))
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    back = [sentence for sentence in said if "takes events again" in sentence]
    assert len(back) <= 1
    assert len(said) - len(back) <= 1
    outbox.close()


def test_a_full_disk_loses_nothing_while_the_process_lives(
    receiver: Receiver, tmp_path: Path
) -> None:
    """If a disk accepts half a line, events continue from memory with one warning, and later from the disk again."""
    script = """
import resource, sys, time
from mlflow_connections_outbox import Destination, Event, Outbox, Policy
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
policy = Policy(poll=0.01, linger=0.02, exit_timeout=20)
outbox = Outbox(Destination("http", sys.argv[1], "an_http_sink:HttpSink"), policy=policy)
for number in range(3000):
    outbox.append(Event("run", "metrics", number, {"n": number, "pad": "x" * (number % 90)}))
assert outbox.flush(20) == 0
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
time.sleep(1.1)
for number in range(3000, 3100):
    outbox.append(Event("run", "metrics", number, {"n": number}))
assert outbox.flush(20) == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", script, receiver.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (warning,) = done.stderr.splitlines()
    assert "cannot be written" in warning
    assert "events are sent from memory" in warning
    arrived = receiver.streams()["run"]
    assert [event["data"]["n"] for event in arrived] == list(range(3100))
    sources = [event["id"].partition(":")[0] for event in arrived]
    assert [source.startswith("memory-") for source in dict.fromkeys(sources)] == [
        False,
        True,
        False,
    ]


def test_a_batch_is_one_request(receiver: Receiver) -> None:
    """A thousand events are a few requests: one per 500 events, or per half a second."""
    outbox = Outbox(
        Destination("http", receiver.url, "an_http_sink:HttpSink"), {}, Policy(exit_timeout=0.1)
    )
    outbox.append(Event("run", "metrics", 0, {"n": 0}))
    assert outbox.flush(20) == 0
    before = receiver.requests
    for number in range(1, 1001):
        outbox.append(Event("run", "metrics", number, {"n": number}))
    assert outbox.flush(20) == 0
    assert receiver.requests - before <= 4
    outbox.close()


PATIENT_SINK = '''
"""Posts an event a request, each with a deadline of its own, for as long as a send may take."""
import json, time, urllib.request
from mlflow_connections_outbox import Unavailable

class PatientSink:
    def __init__(self, destination, environ, state):
        self.url = destination.url
        self.seconds = float(environ["SECONDS_A_SEND"])
        self.tells = environ["TELLS"] == "yes"

    def send(self, batch):
        until = time.monotonic() + self.seconds
        for count, event in enumerate(batch, start=1):
            if time.monotonic() > until:
                raise Unavailable("out of time")
            body = json.dumps(event._asdict()).encode()
            try:
                with urllib.request.urlopen(self.url, body, timeout=10) as answer:
                    answer.read()
            except OSError as error:
                raise Unavailable(type(error).__name__) from None
            if self.tells:
                batch.accept(count)

    def close(self):
        pass
'''


def deliver_short_runs(
    folder: Path, latency: float, *, runs: int = 100, tells: bool = True, faults: bool = False
) -> tuple[list[str], list[str], int]:
    """Log short runs of five metrics each to a destination that takes some time for each request.

    A send of the sink lasts for at most 120 requests, like half a minute at 0.25 s per request.

    Returns:
        The IDs of the events in order, those of the accepted requests, and the number of requests.
    """
    (folder / "a_patient_sink.py").write_text(PATIENT_SINK)
    server = FaultServer()
    server.delay = latency
    if faults:
        server.faults += ["", "", "", "cut"] * 10 + ["", "", "", "", "lost"] * 10
    secrets = {"SECONDS_A_SEND": str(120 * latency), "TELLS": "yes" if tells else "no"}
    outbox = Outbox(Destination("http", server.url, "a_patient_sink:PatientSink"), secrets, POLICY)
    for run in range(runs):
        outbox.append(Event(f"run-{run}", "run_started", run, {}))
        for step in range(5):
            outbox.append(Event(f"run-{run}", "metrics", run, {"step": step}))
        outbox.append(Event(f"run-{run}", "status_changed", run, {}))
        outbox.flush(4 * latency)
    assert outbox.folder is not None
    while outbox.flush(1):
        pass
    outbox.close()
    (report,) = admin.reports()
    assert (report.content.events, report.content.rejected, report.content.aside) == (0, 0, 0)
    while report.counts.delivered < 7 * runs:  # the shipper records them once a second
        time.sleep(0.05)
        (report,) = admin.reports()
    assert report.counts.delivered == 7 * runs
    server.close()
    arrived = [json.loads(request.body) for request in server.accepted]
    steps: dict[int, list[str]] = {run: [] for run in range(runs)}
    for event in {event["id"]: event for event in arrived}.values():
        steps[event["at"]].append(event["kind"])
    assert set(map(tuple, steps.values())) == {("run_started", *["metrics"] * 5, "status_changed")}
    ids = [event["id"] for event in arrived]
    return list(dict.fromkeys(ids)), ids, len(server.requests)


def check_short_runs(folder: Path, latency: float) -> None:
    """Check that nothing is sent twice without a fault, and otherwise at most one request per fault."""
    unique, ids, requests = deliver_short_runs(folder, latency)
    assert len(unique) == 700
    assert ids == unique
    assert requests == 700


def test_short_runs_get_through_at_ordinary_latency(receiver: Receiver, tmp_path: Path) -> None:
    """With 100 runs of 5 metrics, and 120 events per send, all are acknowledged and nothing is sent twice."""
    check_short_runs(tmp_path, 0.004)


@pytest.mark.slow
def test_short_runs_get_through_at_a_quarter_of_a_second(
    receiver: Receiver, tmp_path: Path
) -> None:
    """The same holds at 0.25 s per request, when a send of half a minute is not sufficient."""
    check_short_runs(tmp_path, 0.25)


def test_each_fault_repeats_one_request_at_most(receiver: Receiver, tmp_path: Path) -> None:
    """With connections that are cut before and after the destination accepted an event, each cut costs one request."""
    unique, ids, requests = deliver_short_runs(tmp_path, 0.002, runs=30, faults=True)
    assert len(unique) == 210
    assert len(ids) - 210 == 10  # as many as replies that were lost
    assert requests == 210 + 10 + 10


def test_a_sink_that_reports_no_prefix_repeats_little(receiver: Receiver, tmp_path: Path) -> None:
    """With sends that fail completely, batches shrink to the size that one send covers."""
    unique, ids, _ = deliver_short_runs(tmp_path, 0.002, runs=50, tells=False)
    assert len(unique) == 350
    assert len(ids) < 3 * 350
