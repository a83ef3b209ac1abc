"""The cost of fluent calls through durable beside plain MLflow and beside a store that does nothing.

Each figure comes from a process of its own. The server is MLflow's own, on SQLite with one worker, behind a proxy
that counts requests.
"""

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from _ratio import Row, table

from mlflow_connections_sandbox import MlflowServer

ROUNDS = 3
CALLS = 300
METRICS = 10_000
PLAIN_METRICS = 300

PROGRAM = """
import json, os, statistics, sys, tempfile, time
from pathlib import Path
import mlflow

kind, calls = sys.argv[1], int(sys.argv[2])
if kind == "floor":
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.store.artifact.artifact_repo import ArtifactRepository
    from mlflow.tracking._tracking_service import utils
    from mlflow.store.artifact import artifact_repository_registry as artifacts

    class Nothing(SqlAlchemyStore):
        def log_metric(self, run_id, metric): pass
        def log_param(self, run_id, param): pass
        def log_batch(self, run_id, metrics, params, tags): pass

    class Nowhere(ArtifactRepository):
        def log_artifact(self, local_file, artifact_path=None): pass
        def log_artifacts(self, local_dir, artifact_path=None): pass
        def list_artifacts(self, path=None): return []

    database = f"sqlite:///{os.getcwd()}/floor.db"
    utils._tracking_store_registry.register(
        "floor", lambda store_uri, artifact_uri=None: Nothing(database, "floor://nowhere")
    )
    artifacts._artifact_repository_registry.register("floor", Nowhere)
    mlflow.set_tracking_uri("floor://x")
    mlflow.set_registry_uri(database)

def timed(call):
    taken = []
    for number in range(calls):
        begun = time.perf_counter()
        call(number)
        taken.append(time.perf_counter() - begun)
    return taken

def p(taken, part):
    return sorted(taken)[min(len(taken) - 1, int(len(taken) * part))]

file = Path(tempfile.mkdtemp()) / "1kB.txt"
file.write_bytes(b"x" * 1024)
five = {f"m{n}": 0.5 for n in range(5)}
begun = time.perf_counter()
mlflow.set_experiment("bench")
mlflow.start_run()
result = {"start_run": time.perf_counter() - begun}
mlflow.log_metric("first", 1.0)
mlflow.log_artifact(str(file))
found = {
    "log_metric": timed(lambda n: mlflow.log_metric("loss", 0.5, step=n)),
    "log_metrics(5)": timed(lambda n: mlflow.log_metrics(five, step=n)),
    "log_param": timed(lambda n: mlflow.log_param(f"p{n}", n)),
    "log_artifact(1 kB)": timed(lambda n: mlflow.log_artifact(str(file))),
}
result.update({name: p(taken, 0.5) for name, taken in found.items()})
result["p99.9"] = p(found["log_metric"] + found["log_metrics(5)"] + found["log_param"], 0.999)
print("RESULT", json.dumps(result))
sys.stdout.flush()
os._exit(0)
"""

MANY = """
import sys, time
import mlflow

count = int(sys.argv[1])
mlflow.set_experiment("many")
with mlflow.start_run() as run:
    begun = time.perf_counter()
    for step in range(count):
        mlflow.log_metric("loss", 0.5, step=step)
    if mlflow.get_tracking_uri().startswith("durable"):
        from mlflow_connections_durable import _server

        (server,) = _server._servers.values()
        logged = time.perf_counter() - begun
        while not server.outbox.is_delivered:
            server.outbox.flush(1.0)
    print("RESULT", time.perf_counter() - begun)
"""


def main() -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with MlflowServer(folder / "server") as server:
            counting = Counting(server.url)
            durable = f"durable+{counting.url}"
            rounds: dict[str, list[dict[str, float]]] = {}
            for _ in range(ROUNDS):
                for name, uri in (
                    ("floor", ""),
                    ("plain", server.url),
                    ("durable", durable),
                    ("down", "durable+http://127.0.0.1:9"),
                ):
                    rounds.setdefault(name, []).append(measure(folder, name, uri))
            rows = list(compared(rounds))
            rows += many(folder, server.url, durable, counting)
    print(table(rows))


def measure(folder: Path, kind: str, uri: str) -> dict[str, float]:
    """Run the program against one kind of store, and return medians in seconds."""
    calls = 60 if kind == "plain" else CALLS
    done = run(folder, uri, PROGRAM, kind, str(calls))
    found: dict[str, float] = json.loads(done)
    return found


def compared(rounds: dict[str, list[dict[str, float]]]) -> "list[Row]":
    """Return rows that compare durable with the floor and with plain MLflow."""
    medians = {
        name: {key: statistics.median(each[key] for each in found) * 1e6 for key in found[0]}
        for name, found in rounds.items()
    }
    rows = []
    for call in ("log_metric", "log_metrics(5)", "log_param", "log_artifact(1 kB)"):
        floor, plain = medians["floor"][call], medians["plain"][call]
        for name in ("durable", "down"):
            ours = medians[name][call]
            how = "" if name == "durable" else ", server down"
            aim = "at most 2 times the floor"
            rows.append(
                Row(f"{call}{how}, beside the floor", floor, ours, "µs", aim, ours <= 2 * floor)
            )
        ours = medians["durable"][call]
        aim = "a 200th of plain"
        rows.append(Row(f"{call}, beside plain", plain, ours, "µs", aim, ours * 200 <= plain))
    ours = medians["durable"]["p99.9"]
    rows.append(Row("p99.9 of these calls", None, ours, "µs", "at most 1 ms", ours <= 1000))
    return rows


def many(folder: Path, plain: str, durable: str, counting: "Counting") -> "list[Row]":
    """Return the rows of 10,000 metrics until the server has them, and of the requests."""
    by_plain = float(run(folder, plain, MANY, str(PLAIN_METRICS))) * METRICS / PLAIN_METRICS
    counting.requests = 0
    ours = float(run(folder, durable, MANY, str(METRICS)))
    what = f"{METRICS:,} metrics until the server has them"
    return [
        Row(what, by_plain, ours, "s", "a tenth of plain", ours * 10 <= by_plain),
        Row(
            f"requests with {METRICS:,} metrics",
            None,
            counting.requests,
            "requests",
            "at most 15",
            counting.requests <= 15,
        ),
    ]


def run(folder: Path, uri: str, program: str, *arguments: str) -> str:
    """Run a program, and return what it prints as its result."""
    environment = {
        **os.environ,
        "MLFLOW_CONNECTIONS_OUTBOX_DIR": str(folder / "outbox"),
        "MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT": "0",
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_REGISTRY_URI": uri,
    }
    if not uri:
        del environment["MLFLOW_TRACKING_URI"], environment["MLFLOW_REGISTRY_URI"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return line.removeprefix("RESULT ")


class Counting:
    """A proxy in front of a server that counts the requests which log.

    Attributes:
        requests: How many there were of `log-batch`, `runs/update` and creations.
    """

    def __init__(self, target: str) -> None:
        self.requests = 0
        counting = self
        address = target.removeprefix("http://")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _pass_on(self) -> None:
                if self.command == "POST" and "search" not in self.path:
                    counting.requests += 1
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


if __name__ == "__main__":
    main()
