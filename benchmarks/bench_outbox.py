"""The cost of an append with each kind of destination, of draining a backlog, and in memory.

Every figure comes from a separate process, and the destination is another process. Scenarios
alternate, and the medians of their rounds are compared. An append is measured without creating its
event.

Two rows show how much of an append the outbox itself costs: `framed` is the minimum that Python
does for a line with a stamp and a checksum, `encoded` the same with a reused JSON encoder of the
standard library.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from _ratio import Row, median, table

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = int(__import__("os").environ.get("ROUNDS", 5))
EVENTS = 10_000
BACKLOG = 100_000

SINK = """
import http.client, json, urllib.parse
from mlflow_connections_outbox import Unavailable

class HttpSink:
    def __init__(self, destination, environ, state):
        self.url = urllib.parse.urlsplit(destination.url)
        self.connection = http.client.HTTPConnection(self.url.netloc, timeout=10)

    def send(self, batch):
        rows = [
            {"stream": stream, "kind": kind, "at": at, "data": data, "id": identity}
            for stream, kind, at, data, identity in batch
        ]
        body = json.dumps(rows).encode()
        try:
            self.connection.request("POST", self.url.path, body)
            answer = self.connection.getresponse()
            answer.read()
        except OSError as error:
            raise Unavailable(str(error)) from None
        if answer.status != 200:
            raise Unavailable(str(answer.status))

    def close(self):
        self.connection.close()
"""

SERVER = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep({"/hang": 30, "/5ms": 0.005}.get(self.path, 0))
        self.send_response(500 if self.path == "/500" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
"""

# One event as the recorder creates it for `mlflow.log_metric`.
EVENT = """
RUN = "0123456789abcdef0123456789abcdef"
def data(n):
    return {"metrics": [["loss", n * 0.1, 1_700_000_000_000 + n, n]]}
"""

BARE = """
import os, time, zlib
from json import encoder
descriptor = os.open(folder + "/bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
chunks = encoder.c_make_encoder(
    None, str, encoder.encode_basestring_ascii, None, ":", ",", False, False, True
)
def encoded(event):
    return "".join(chunks(event, 0)).encode()
def framed(body):
    content = b"%d %b" % (time.monotonic_ns(), body)
    return b"%08x %b\\n" % (zlib.crc32(content), content)
"""
SQLITE = """
import json, sqlite3
base = sqlite3.connect(folder + "/events.db", isolation_level=None)
base.execute("pragma journal_mode=wal"); base.execute("pragma synchronous=MODE")
base.execute("create table events (body text)")
def append(event):
    base.execute("insert into events values (?)", (json.dumps(event),))
"""

WAYS = {
    "write": BARE
    + """
line = framed(encoded(make(1)))
def append(event):
    os.write(descriptor, line)
""",
    "framed": BARE
    + """
body = encoded(make(1))
def append(event):
    os.write(descriptor, framed(body))
""",
    "encoded": BARE
    + """
def append(event):
    os.write(descriptor, framed(encoded(event)))
""",
    "normal": SQLITE.replace("MODE", "normal"),
    "full": SQLITE.replace("MODE", "full"),
    "outbox": """
import logging, sys
if option != "orjson":
    sys.modules["orjson"] = None
from mlflow_connections_outbox import Destination, Event, Outbox, Policy
logging.disable(logging.CRITICAL)
outbox = Outbox(
    Destination("bench", url, "a_bench_sink:HttpSink"), {},
    Policy(shipper=option if option == "thread" else "process", sync_events=option == "event", exit_timeout=0.0),
)
append = outbox.append
def make(n):
    return Event(RUN, "logged", 1_700_000_000_000 + n, data(n))
""",
}

WRITER = """
import json, resource, sys, time
way, url, option, events, folder = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
{event}
def make(n):
    return RUN, "logged", 1_700_000_000_000 + n, data(n)
{way}
clock = time.perf_counter_ns
event = make(0)
begun = clock()
append(event)
first = clock() - begun
time.sleep(0.7)  # the shipper starts
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
times = []
for n in range(events):
    event = make(n)
    begun = clock()
    append(event)
    times.append(clock() - begun)
times.sort()
print(json.dumps({{
    "first": first / 1e3, "p50": times[len(times) // 2] / 1e3, "p99": times[len(times) * 99 // 100] / 1e3,
    "p99.9": times[len(times) * 999 // 1000] / 1e3,
    "memory": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
}}))
"""

FILL = """
import sys, time
from pathlib import Path
from mlflow_connections_outbox import Destination, Event
from mlflow_connections_outbox._files import create, spool_of
from mlflow_connections_outbox._format import encode, frame
from mlflow_connections_outbox._writer import Segment
{event}
url, segments, events = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
destination = Destination("bench", url, "a_bench_sink:HttpSink")
folder = spool_of(destination)
create(folder, destination)
for _ in range(segments):
    segment = Segment(folder)
    for n in range(events // segments):
        body = encode(Event(RUN, "logged", 1_700_000_000_000 + n, data(n)))
        segment.append(frame(time.monotonic_ns(), body))
    segment.close()
print(folder)
"""

DRAIN = """
import resource, sys, time
from mlflow_connections_outbox import _cli
begun = time.perf_counter()
assert _cli.main(["ship"]) == 0
print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""

PLAIN = """
import http.client, json, sys, time
from pathlib import Path
url, folder = sys.argv[1:]
host, _, path = url.removeprefix("http://").partition("/")
begun = time.perf_counter()
connection = http.client.HTTPConnection(host)
batch = []
def post():
    connection.request("POST", "/" + path, json.dumps(batch).encode())
    connection.getresponse().read()
    batch.clear()
for segment in sorted(Path(folder).glob("*.seg")):
    with segment.open("rb") as file:
        next(file)
        for line in file:
            stream, kind, at, data = json.loads(line.split(b" ", 2)[2])
            batch.append({"stream": stream, "kind": kind, "at": at, "data": data, "id": ""})
            if len(batch) == 500:
                post()
if batch:
    post()
print(time.perf_counter() - begun)
"""


def run(folder: Path, state: str, script: str, *arguments: str) -> list[str]:
    """Run a script, and return the words of its last line."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(folder), "MLFLOW_CONNECTIONS_OUTBOX_DIR": state},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1].split()


def write(
    folder: Path, way: str, url: str, option: str = "", events: int = EVENTS
) -> dict[str, float]:
    """Run a writer; return its figures, in microseconds and megabytes."""
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as state:
        script = WRITER.format(event=EVENT, way=WAYS[way])
        words = run(folder, state, script, way, url, option or "none", str(events), state)
        figures: dict[str, float] = json.loads(" ".join(words))
        # The rest is not worth waiting for, and its shipper must not disturb the next round.
        for segment in Path(state).rglob("*.seg"):
            segment.unlink(missing_ok=True)
        time.sleep(0.3)
        return figures


def write_at_once(folder: Path, url: str, processes: int = 8) -> dict[str, float]:
    """Run many writers of one spool in parallel; return the median of their figures."""
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as state:
        script = WRITER.format(event=EVENT, way=WAYS["outbox"])
        environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "MLFLOW_CONNECTIONS_OUTBOX_DIR": state,
        }
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", script, "outbox", url, "none", str(EVENTS // 4), state],
                env=environment,
                stdout=subprocess.PIPE,
            )
            for _ in range(processes)
        ]
        found = [json.loads(writer.communicate()[0]) for writer in writers]
        for segment in Path(state).rglob("*.seg"):
            segment.unlink(missing_ok=True)
        return {key: statistics.median(each[key] for each in found) for key in found[0]}


def drain(folder: Path, url: str, segments: int) -> tuple[list[float], list[float], float]:
    """Ship backlogs and read them in a plain loop, alternately.

    Returns:
        The seconds of both, and the megabytes of the shipping process.
    """
    megabytes: list[float] = []
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as state:
            fill = FILL.format(event=EVENT)
            (spool,) = run(folder, state, fill, url, str(segments), str(BACKLOG))
            times[0].append(float(run(folder, state, PLAIN, url, spool)[0]))
            seconds, memory = run(folder, state, DRAIN)
            times[1].append(float(seconds))
            megabytes.append(float(memory))
    return *times, statistics.median(megabytes)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "a_bench_sink.py").write_text(SINK)
        server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            base = f"http://127.0.0.1:{int(server.stdout.readline())}"
            print(table([*append_rows(folder, base), *drain_rows(folder, base)]))
        finally:
            server.kill()
            server.wait()


def append_rows(folder: Path, base: str) -> list[Row]:
    """Run all ways to write alternately, and compare their medians."""
    absent = "http://127.0.0.1:9/"
    scenarios: dict[str, Callable[[], dict[str, float]]] = {
        "write": lambda: write(folder, "write", ""),
        "framed": lambda: write(folder, "framed", ""),
        "encoded": lambda: write(folder, "encoded", ""),
        "SQLite, NORMAL": lambda: write(folder, "normal", "", events=2000),
        "SQLite, FULL": lambda: write(folder, "full", "", events=300),
        "absent": lambda: write(folder, "outbox", absent),
        "absent, with orjson": lambda: write(folder, "outbox", absent, "orjson"),
        "hanging": lambda: write(folder, "outbox", f"{base}/hang"),
        "answering 500": lambda: write(folder, "outbox", f"{base}/500"),
        "healthy": lambda: write(folder, "outbox", f"{base}/ok"),
        "healthy, thread": lambda: write(folder, "outbox", f"{base}/ok", "thread"),
        "8 processes": lambda: write_at_once(folder, f"{base}/ok"),
        "every event synced": lambda: write(folder, "outbox", absent, "event", events=300),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in scenarios}
    for _ in range(ROUNDS):
        for name, scenario in scenarios.items():
            found[name].append(scenario())

    def of(name: str, figure: str) -> float:
        return statistics.median(each[figure] for each in found[name])

    rows: list[Row] = []
    for figure in ("p50", "p99"):
        rows += [
            Row(
                f"append {figure}: os.write | framed",
                of("write", figure),
                of("framed", figure),
                "µs",
            ),
            Row(
                f"append {figure}: encoded | ours",
                of("encoded", figure),
                of("absent", figure),
                "µs",
            ),
        ]
    for name in (
        *("absent", "absent, with orjson", "hanging", "answering 500", "healthy"),
        *("healthy, thread", "8 processes"),
    ):
        for figure in ("p50", "p99"):
            plain, ours = of("write", figure), of(name, figure)
            aim, met = ("≤ 2", ours <= 2 * plain) if name.startswith("absent") else ("", None)
            rows.append(
                Row(f"append {figure}, {name}: os.write | ours", plain, ours, "µs", aim, met)
            )
    for base_name, ours_name in (
        ("SQLite, NORMAL", "absent"),
        ("SQLite, FULL", "every event synced"),
    ):
        for figure in ("p50", "p99"):
            row = f"append {figure}: {base_name} | {ours_name}"
            rows.append(Row(row, of(base_name, figure), of(ours_name, figure), "µs"))
    rows += [
        Row("first append", None, of("absent", "first"), "µs"),
        Row("memory that 10,000 appends add to a writer", None, of("absent", "memory"), "MB"),
    ]
    return rows


def drain_rows(folder: Path, base: str) -> list[Row]:
    """Compare draining with a plain loop."""
    rows = []
    for segments, path, latency in (
        (25, "ok", ""),
        (1500, "ok", ""),
        (25, "5ms", ", 5 ms a request"),
    ):
        plain, ours, megabytes = drain(folder, f"{base}/{path}", segments)
        what = f"drain {BACKLOG:,} events in {segments:,} segments{latency}"
        met = median(ours) <= median(plain)
        rows += [
            Row(f"{what}: plain loop | ship", median(plain), median(ours), "s", "≤ 1", met),
            Row(f"{what}: events a second", BACKLOG / median(plain), BACKLOG / median(ours), "/s"),
            Row(f"memory of the shipping process, {segments:,} segments", None, megabytes, "MB"),
        ]
    return rows


if __name__ == "__main__":
    main()
