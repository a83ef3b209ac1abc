"""What an append costs, whatever its destination does, and whether a thread or a process ships better.

Each figure comes from a process of its own, and the destination is another process; the scenarios
take turns and the medians of their rounds are compared.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _ratio import Row, table

ROUNDS = 7
EVENTS = 5_000

SINK = """
import gzip, json, urllib.request
from mlflow_connections_outbox import Unavailable

class HttpSink:
    def __init__(self, destination, environ, state):
        self.url = destination.url

    def send(self, events):
        body = gzip.compress(json.dumps([e._asdict() for e in events]).encode(), 6)
        try:
            with urllib.request.urlopen(self.url, data=body, timeout=10) as answer:
                answer.read()
        except OSError as error:
            raise Unavailable(str(error)) from None

    def close(self):
        pass
"""

SERVER = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/hang":
            time.sleep(30)
        self.send_response(500 if self.path == "/500" else 200)
        self.end_headers()
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
"""

TRAINER = """
import json, logging, sys, time
from mlflow_connections_outbox import Destination, Event, Outbox, Policy
url, shipper, sync, events = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
logging.disable(logging.CRITICAL)

def work():
    # A step of something that trains: about a tenth of a millisecond of Python.
    total = 0
    for n in range(1500):
        total += n * n
    return total

outbox = Outbox(
    Destination("bench", url, "a_bench_sink:HttpSink"), {},
    Policy(shipper=shipper, sync=sync, exit_timeout=0.0),
) if shipper != "none" else None

run = "0123456789abcdef0123456789abcdef"
def append(n):
    outbox.append(Event(run, "metrics", 1_700_000_000_000 + n, {"key": "loss", "value": n * 0.1, "step": n}))

clock = time.perf_counter_ns
begun = clock()
if outbox:
    append(0)
first = clock() - begun
time.sleep(0.7)  # the shipper starts
times, begun = [], clock()
for n in range(events):
    work()
    before = clock()
    if outbox:
        append(n)
    times.append(clock() - before)
seconds = (clock() - begun) / 1e9
times.sort()
left = outbox.flush(0.0) if outbox else 0
print(json.dumps({
    "first": first / 1e3, "p50": times[len(times) // 2] / 1e3, "p99": times[len(times) * 99 // 100] / 1e3,
    "p99.9": times[len(times) * 999 // 1000] / 1e3, "max": times[-1] / 1e3,
    "step": seconds / events * 1e6, "left": left,
}))
"""


def measure(folder: Path, url: str, shipper: str, sync: float) -> dict[str, float]:
    """Run a trainer; give its figures, in microseconds."""
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as state:
        environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "MLFLOW_CONNECTIONS_OUTBOX_DIR": state,
        }
        done = subprocess.run(
            [sys.executable, "-c", TRAINER, url, shipper, str(sync), str(EVENTS)],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
        )
        figures: dict[str, float] = json.loads(done.stdout)
        # What is left is not worth waiting for, and its shipper must not disturb the next round.
        for segment in Path(state).rglob("*.seg"):
            segment.unlink(missing_ok=True)
        time.sleep(0.3)
        return figures


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "a_bench_sink.py").write_text(SINK)
        server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            base = f"http://127.0.0.1:{int(server.stdout.readline())}"
            urls = {
                "down": "http://127.0.0.1:9/",
                "answering 500": f"{base}/500",
                "hanging": f"{base}/hang",
                "healthy": f"{base}/ok",
            }
            print(table(rows(folder, urls)))
        finally:
            server.kill()
            server.wait()


def rows(folder: Path, urls: dict[str, str]) -> list[Row]:
    """Run all scenarios in turns, and lay their medians side by side."""
    scenarios = {
        "none": ("http://none/", "none", 0.0),
        "no sync": (urls["healthy"], "process", 0.0),
        **{
            f"{what}, {how}": (url, how, 0.2)
            for what, url in urls.items()
            for how in ("process", "thread")
        },
    }
    found: dict[str, list[dict[str, float]]] = {scenario: [] for scenario in scenarios}
    for _ in range(ROUNDS):
        for scenario, (url, shipper, sync) in scenarios.items():
            found[scenario].append(measure(folder, url, shipper, sync))

    def median(scenario: str, figure: str) -> float:
        return statistics.median(each[figure] for each in found[scenario])

    result = []
    for what in urls:
        ours = f"{what}, process"
        p50, p99 = median(ours, "p50"), median(ours, "p99")
        result += [
            Row(
                f"append p50, {what}: thread | process",
                median(f"{what}, thread", "p50"),
                p50,
                "µs",
                "p50 < 20 µs",
                p50 < 20,
            ),
            Row(
                f"append p99, {what}: thread | process",
                median(f"{what}, thread", "p99"),
                p99,
                "µs",
                "p99 < 1 ms",
                p99 < 1000,
            ),
            Row(
                f"append p99.9, {what}: thread | process",
                median(f"{what}, thread", "p99.9"),
                median(ours, "p99.9"),
                "µs",
            ),
        ]
    for how in ("thread", "process"):
        result.append(
            Row(
                f"a step of 0.1 ms: without | healthy, {how}",
                median("none", "step"),
                median(f"healthy, {how}", "step"),
                "µs",
            )
        )
    first = median("healthy, process", "first")
    result += [
        Row(
            "append p99: no sync | every 200 ms",
            median("no sync", "p99"),
            median("healthy, process", "p99"),
            "µs",
        ),
        Row(
            "append p99.9: no sync | every 200 ms",
            median("no sync", "p99.9"),
            median("healthy, process", "p99.9"),
            "µs",
        ),
        Row("first append, process", None, first, "µs"),
    ]
    return result


if __name__ == "__main__":
    main()
