"""The cost of fluent calls through durable, compared with plain MLflow and with a store that does nothing.

Each figure comes from a separate process. The server is MLflow's own, on SQLite with one worker,
behind a proxy that counts requests; plain MLflow reaches it through such a proxy, too. "Down" is a
port without a listener, "hanging" one that accepts connections and never responds, "flapping" a
proxy that cuts every connection for two seconds of four.
"""

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from _floor import URI as FLOOR
from _floor import floor
from _ratio import Row, table

from mlflow_connections_outbox import admin
from mlflow_connections_sandbox import MlflowServer

ROUNDS = 3
CALLS = 300
PLAIN_CALLS = 40
TAIL_CALLS = 30_000
METRICS = 10_000
PLAIN_METRICS = 300
STEADY_SECONDS = 8.0
_TICKS = os.sysconf("SC_CLK_TCK")

PROGRAM = """
import json, os, statistics, sys, tempfile, time
from pathlib import Path
import mlflow

calls, runs = int(sys.argv[1]), int(sys.argv[2])
longest = 0.0

def timed(call, count):
    global longest
    taken = []
    for number in range(count):
        begun = time.perf_counter()
        call(number)
        taken.append(time.perf_counter() - begun)
    longest = max(longest, *taken)
    return statistics.median(taken)

file = Path(tempfile.mkdtemp()) / "1kB.txt"
file.write_bytes(b"x" * 1024)
five = {f"m{n}": 0.5 for n in range(5)}
# What is imported and built once is no wait for a server.
import mlflow.store.tracking.rest_store
mlflow.MlflowClient()
timed(lambda _: mlflow.set_experiment("bench"), 1)
result = {}
starts = []
for _ in range(runs):
    starts.append(timed(lambda _: mlflow.start_run(), 1))
    mlflow.log_metric("first", 1.0)
    mlflow.end_run()
result["start_run"] = statistics.median(starts)
timed(lambda _: mlflow.start_run(), 1)
mlflow.log_metric("first", 1.0)
mlflow.log_artifact(str(file))
for name, call in {
    "log_metric": lambda n: mlflow.log_metric("loss", 0.5, step=n),
    "log_metrics(5)": lambda n: mlflow.log_metrics(five, step=n),
    "log_param": lambda n: mlflow.log_param(f"p{n}", n),
    "log_artifact(1 kB)": lambda n: mlflow.log_artifact(str(file)),
}.items():
    result[name] = timed(call, calls)
result["longest"] = longest
print("RESULT", json.dumps(result))
sys.stdout.flush()
os._exit(0)
"""

TAIL = """
import json, os, resource, sys, time
import mlflow

calls = int(sys.argv[1])
mlflow.set_experiment("tail")
mlflow.start_run()
mlflow.log_metric("loss", 0.5)
wall, cpu = [], []
switches = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
for step in range(calls):
    cpu_begun, begun = time.thread_time_ns(), time.perf_counter_ns()
    mlflow.log_metric("loss", 0.5, step=step)
    wall.append(time.perf_counter_ns() - begun)
    cpu.append(time.thread_time_ns() - cpu_begun)
waits = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - switches
part = int(calls * 0.999)
print("RESULT", json.dumps([sorted(wall)[part], sorted(cpu)[part], waits]))
sys.stdout.flush()
os._exit(0)
"""

MANY = """
import json, sys, time
import mlflow

count = int(sys.argv[1])
mlflow.set_experiment("many")
started = time.time()
with mlflow.start_run() as run:
    begun = time.perf_counter()
    for step in range(count):
        mlflow.log_metric("loss", 0.5, step=step)
    if mlflow.get_tracking_uri().startswith("durable"):
        from mlflow_connections_outbox import admin

        while any(report.content.events for report in admin.reports("durable")):
            time.sleep(0.02)
    print("RESULT", json.dumps([time.perf_counter() - begun, started]))
"""

STEADY = """
import sys, time
import mlflow

seconds = float(sys.argv[1])
mlflow.set_experiment("steady")
values = {f"m{n}": 0.5 for n in range(25)}
with mlflow.start_run():
    begun, step = time.perf_counter(), 0
    while time.perf_counter() < begun + seconds:
        mlflow.log_metrics(values, step=step)
        step += 1
        time.sleep(max(0.0, begun + step / 100 - time.perf_counter()))
    print("RESULT", step * len(values) / (time.perf_counter() - begun), flush=True)
    sys.stdin.read()
"""


class Bench:
    """The servers and the folder of a run of the benchmark.

    Args:
        folder: An empty folder.
        plain: The URL of MLflow's server.
    """

    def __init__(self, folder: Path, plain: str) -> None:
        self.folder = folder
        self.plain = Proxy(plain).url  # through a proxy like the others, because it adds time
        self.proxy = Proxy(plain)
        self.flapping = Proxy(plain, flaps=True)
        self._path = floor(folder / "floor")
        self._hanging = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._outboxes = 0

    def uris(self) -> dict[str, str]:
        """Return the tracking URI of each kind of store."""
        port = self._hanging.getsockname()[1]
        return {
            "floor": FLOOR,
            "plain": self.plain,
            "healthy": f"durable+{self.proxy.url}",
            "down": "durable+http://127.0.0.1:9",
            "hanging": f"durable+http://127.0.0.1:{port}",
            "flapping": f"durable+{self.flapping.url}",
        }

    def start(self, uri: str, program: str, *arguments: object) -> "subprocess.Popen[str]":
        """Start a program."""
        environment = {
            **os.environ,
            "PYTHONPATH": self._path,
            "MLFLOW_CONNECTIONS_OUTBOX_DIR": str(self.outbox),
            "MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT": "0",
            "MLFLOW_TRACKING_URI": uri,
            # `use` sets it for durable; without it MLflow searches for Spark in each call.
            "MLFLOW_REGISTRY_URI": uri,
        }
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, uri: str, program: str, *arguments: object) -> str:
        """Run a program, and return the result that it prints."""
        return result(self.start(uri, program, *arguments))

    @property
    def outbox(self) -> Path:
        """The folder of the outbox in use."""
        return self.folder / f"outbox-{self._outboxes}"

    def begin_outbox(self) -> None:
        """Use an empty outbox from now on, which has no shipper yet."""
        self._outboxes += 1


def result(process: "subprocess.Popen[str]") -> str:
    """Wait for a program, and return the result that it printed."""
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"A program of the benchmark ended with {process.returncode}.")
    (line,) = [line for line in out.splitlines() if line.startswith("RESULT ")]
    return line.removeprefix("RESULT ")


def main() -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        with MlflowServer(folder / "server") as server:
            bench = Bench(folder, server.url)
            for part in (many, tails, calls, steady):
                print(table(list(part(bench))), end="\n\n", flush=True)


def calls(bench: Bench) -> Iterable[Row]:
    """Yield rows that compare the calls with the floor and with plain MLflow."""
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(ROUNDS):
        for name, uri in bench.uris().items():
            count, runs = (PLAIN_CALLS if name == "plain" else CALLS), (0 if name == "floor" else 8)
            runs = 1 if name in {"floor", "down", "hanging", "flapping"} else runs
            measured: dict[str, float] = json.loads(bench.run(uri, PROGRAM, count, runs))
            found.setdefault(name, []).append(measured)
    medians = {
        name: {key: statistics.median(each[key] for each in rounds) * 1e6 for key in rounds[0]}
        for name, rounds in found.items()
    }
    ways = ("healthy", "down", "hanging", "flapping")
    for call in ("log_metric", "log_metrics(5)", "log_param", "log_artifact(1 kB)"):
        least, plain = medians["floor"][call], medians["plain"][call]
        # A file must be read, and stored in a folder.
        limit, aim = (40, "at most 40 µs") if "artifact" in call else (2 * least, "at most 2")
        for name in ways:
            ours = medians[name][call]
            yield Row(f"{call}, server {name}, floor", least, ours, "µs", aim, ours <= limit)
        ours = medians["healthy"][call]
        yield Row(f"{call}, plain", plain, ours, "µs", "at most 1/200", ours * 200 <= plain)
    for name in ("down", "hanging", "flapping"):
        ours = max(each["longest"] for each in found[name])
        yield Row(f"longest call, server {name}", None, ours, "s", "at most 2.5 s", ours <= 2.5)
    plain, ours = medians["plain"]["start_run"] / 1000, medians["healthy"]["start_run"] / 1000
    yield Row("start_run, plain", plain, ours, "ms", "at most 1.1", ours <= 1.1 * plain)


def tails(bench: Bench) -> Iterable[Row]:
    """Yield rows of the slowest call in a thousand while a shipper is busy, compared with no shipper."""
    uris = bench.uris()
    tails = {}
    for name in ("floor", "healthy"):
        tails[name] = json.loads(bench.run(uris[name], TAIL, TAIL_CALLS))
    (least, _, _), (wall, cpu, waits) = tails["floor"], tails["healthy"]
    yield Row("p99.9 of log_metric, floor", least / 1000, wall / 1000, "µs")
    aim = "at most 1 ms"
    yield Row("p99.9 of log_metric, own CPU time", None, cpu / 1000, "µs", aim, cpu <= 1e6)
    share = waits / TAIL_CALLS
    yield Row("calls that wait for a lock or a disk", None, share, "of all", "0.001", share <= 1e-3)


def many(bench: Bench) -> Iterable[Row]:
    """Yield rows of 10,000 metrics until the server has them, and of the first batch."""
    seconds, _ = json.loads(bench.run(bench.plain, MANY, PLAIN_METRICS))
    by_plain = seconds * METRICS / PLAIN_METRICS
    bench.begin_outbox()
    bench.proxy.reset()
    ours, started = json.loads(bench.run(f"durable+{bench.proxy.url}", MANY, METRICS))
    what = f"{METRICS:,} metrics until the server has them"
    yield Row(what, by_plain, ours, "s", "at most 1/10", ours * 10 <= by_plain)
    requests = bench.proxy.requests
    yield Row(
        f"requests with {METRICS:,} metrics", None, requests, "", "at most 15", requests <= 15
    )
    first = bench.proxy.first_batch - started
    yield Row("first batch after start_run", None, first, "s", "1 s on an idle machine")


def steady(bench: Bench) -> Iterable[Row]:
    """Yield rows of two trainings that log 2,500 metrics a second each, and of their shipper."""
    bench.begin_outbox()
    os.environ["MLFLOW_CONNECTIONS_OUTBOX_DIR"] = str(bench.outbox)
    uri = f"durable+{bench.proxy.url}"
    trainings = [bench.start(uri, STEADY, STEADY_SECONDS) for _ in range(2)]
    pid = until(lambda: shipper(bench.outbox))
    time.sleep(STEADY_SECONDS / 2)
    busy = share(pid, STEADY_SECONDS / 3)
    memory = megabytes(pid)
    time.sleep(STEADY_SECONDS)
    until(lambda: not any(report.content.events for report in admin.reports("durable")))
    idle = share(pid, 4.0)
    rates = [float(result(each)) for each in trainings]
    yield Row("metrics of two trainings", None, sum(rates), "per s", "5,000", sum(rates) >= 4900)
    yield Row("shipper: a core's share at that", None, busy * 100, "%")
    yield Row("shipper: memory", None, memory, "MB")
    yield Row("shipper: a core's share while idle", None, idle * 100, "%")


def until(found: "Callable[[], int | None]") -> int:
    """Wait until a condition holds."""
    while not (value := found()):
        time.sleep(0.05)
    return value


def shipper(outbox: Path) -> int | None:
    """Return the shipper's process once it has reported."""
    for path in outbox.glob("durable-*/status.json"):
        return int(json.loads(path.read_text())["pid"])
    return None


def share(pid: int, seconds: float) -> float:
    """Return the share of a core that a process uses over some seconds."""
    before = _ticks(pid)
    time.sleep(seconds)
    return (_ticks(pid) - before) / _TICKS / seconds


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def megabytes(pid: int) -> float:
    """Return the memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


class Proxy:
    """A proxy in front of a server that counts the requests which log.

    Args:
        target: The URL of the server.
        flaps: Whether it cuts every connection for two seconds of four.

    Attributes:
        requests: The number of requests that changed something.
        first_batch: The time of the first batch of metrics, in seconds since the epoch.
    """

    def __init__(self, target: str, *, flaps: bool = False) -> None:
        self.reset()
        proxy = self
        address = target.removeprefix("http://")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _pass_on(self) -> None:
                if flaps and time.monotonic() % 4 < 2:
                    self.close_connection = True
                    return
                if self.command == "POST" and "search" not in self.path:
                    proxy.requests += 1
                if self.path.endswith("/runs/log-batch"):
                    proxy.first_batch = proxy.first_batch or time.time()
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                connection = http.client.HTTPConnection(address, timeout=60)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                connection.request(self.command, self.path, body, headers)
                response = connection.getresponse()
                content = response.read()
                connection.close()
                self.send_response(response.status)
                for name, value in response.getheaders():
                    if name.lower() == "content-type":
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        """Reset the counts."""
        self.requests = 0
        self.first_batch = 0.0


if __name__ == "__main__":
    main()
