"""The cost of core: a full URI, a keyword among 150 distributions, and its import."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import entry_points
from pathlib import Path

import mlflow
from _floor import URI as FLOOR
from _floor import floor
from _ratio import Row, children_seconds, interleave, median, per_call, table

from mlflow_connections import resolve
from mlflow_connections.discovery import rescan

DISTRIBUTIONS = 150
CALLS = 2000
FLUENT_ROUNDS = 5
URI = "http://127.0.0.1:5000"
PLUGIN = """
class Plugin:
    def tracking_uri(self, credentials, options): return "http://plugin.example"
connection = Plugin()
"""
FLUENT = """
import statistics, sys, time
import mlflow

if sys.argv[1] == "connection":
    import mlflow_connections

    mlflow_connections.use(sys.argv[2])
else:
    mlflow.set_tracking_uri(sys.argv[2])
with mlflow.start_run():
    times = []
    for step in range(2000):
        begun = time.perf_counter()
        mlflow.log_metric("loss", 0.5, step=step)
        times.append(time.perf_counter() - begun)
print(statistics.median(times))
"""
STANDARD_ONLY = (
    "import sys, mlflow_connections; "
    "print(*{m.partition('.')[0] for m in sys.modules} - sys.stdlib_module_names"
    " - {'mlflow_connections'})"
)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder))
        sys.path.insert(0, folder)
        print(table([*full_uri(), *keyword(), *importing(), *fluent()]))
    print(
        f"outside the standard library, `import mlflow_connections` loads: {outside() or 'nothing'}"
    )


def install(folder: Path) -> None:
    """Create as many distributions as a large environment has, one of them with a connection."""
    (folder / "bench_plugin.py").write_text(PLUGIN)
    for number in range(DISTRIBUTIONS):
        info = folder / f"bench_{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: bench-{number}\nVersion: 1.0\n"
        )
        groups = "[console_scripts]\n" + "".join(f"c{number}_{i} = m:f\n" for i in range(5))
        if number == 0:
            groups += "[kedro_mlflow.connections]\nbench = bench_plugin:connection\n"
        (info / "entry_points.txt").write_text(groups)


def full_uri() -> list[Row]:
    """Compare resolving and setting a full URI with setting it."""
    plain, ours = interleave(
        per_call(lambda: mlflow.set_tracking_uri(URI), CALLS),
        per_call(lambda: mlflow.set_tracking_uri(resolve(URI).tracking_uri), CALLS),
    )
    before, after = median(plain, 1e6 / CALLS), median(ours, 1e6 / CALLS)
    aim = "under 10 µs more"
    return [Row("a full URI, resolved and set", before, after, "µs", aim, after - before < 10)]


def keyword() -> list[Row]:
    """Resolve a keyword twice, and compare the first time with the bare scan."""

    def scan() -> None:
        entry_points(group="kedro_mlflow.connections")

    def first() -> None:
        rescan()
        sys.modules.pop("bench_plugin", None)
        resolve("bench")

    scanned, resolved = interleave(scan, first)
    _, again = interleave(lambda: None, per_call(lambda: resolve("bench"), CALLS))
    plain, ours = median(scanned, 1e3), median(resolved, 1e3)
    repeated = median(again, 1e6 / CALLS)
    return [
        Row("a keyword, first", plain, ours, "ms", "under 10 ms more", ours - plain < 10),
        Row("a keyword, repeated", None, repeated, "µs", "under 50 µs", repeated < 50),
    ]


def importing() -> list[Row]:
    """Compare starting an interpreter that imports core with one that imports nothing."""

    def start(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    start("import mlflow_connections")
    plain, ours = interleave(
        lambda: start("pass"),
        lambda: start("import mlflow_connections"),
        rounds=41,
        clock=children_seconds,
    )
    before, after = median(plain, 1e3), median(ours, 1e3)
    aim = "under 15 ms more"
    return [Row("import mlflow_connections, CPU", before, after, "ms", aim, after - before < 15)]


def fluent() -> list[Row]:
    """Compare `mlflow.log_metric` over a store that does nothing with the same within a connection, and in a command.

    The command of `mlflow-connections run` uses nothing of these packages.

    No registry URI is set, so plain MLflow searches for Spark in each call. In processes of their own, since a
    connection spares the search until the process ends.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join([floor(Path(folder)), os.environ.get("PYTHONPATH", "")])

        def measured(how: str, *before: str) -> float:
            done = subprocess.run(
                [*before, sys.executable, "-c", FLUENT, how, FLOOR],
                env={**os.environ, "PYTHONPATH": path},
                capture_output=True,
                text=True,
                check=True,
            )
            return float(done.stdout.splitlines()[-1]) * 1e6

        run = (sys.executable, "-m", "mlflow_connections", "run", FLOOR, "--")
        found = [
            (measured("plain"), measured("connection"), measured("plain", *run))
            for _ in range(FLUENT_ROUNDS)
        ]
    plain, ours, inherited = (statistics.median(times) for times in zip(*found, strict=True))
    what, aim = "log_metric over nothing, in", "less than plain"
    return [
        Row(f"{what} a connection", plain, ours, "µs", aim, ours < plain),
        Row(f"{what} a command of `run`", plain, inherited, "µs", aim, inherited < plain),
    ]


def outside() -> str:
    """Return the modules that importing core loads from outside of core and the standard library."""
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*{m.partition('.')[0] for m in sys.modules})"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    loaded = subprocess.run(
        [sys.executable, "-c", STANDARD_ONLY], capture_output=True, text=True, check=True
    ).stdout.split()
    return " ".join(sorted(set(loaded) - set(bare)))


if __name__ == "__main__":
    begun = time.monotonic()
    main()
    print(f"measured in {time.monotonic() - begun:.0f} s")
