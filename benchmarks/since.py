"""Compare the cost of the packages with that at an earlier commit, alternately within one run.

`nox -s bench_since -- COMMIT` installs both and runs this with the two environments. Each figure is
the median over alternating processes; a process measures its own CPU time.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from _ratio import Row, children_seconds, interleave, median, table

ROUNDS = 11
# Bytecode is kept, as in any environment, or each process would compile its imports.
ENVIRON = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

# Most of these print seconds, measured after the common imports.
IMPORTED = """
import time
{before}
begun = time.process_time()
{statement}
print(time.process_time() - begun)
"""

RESOLVED = """
import time, os
os.environ.update(DATABRICKS_HOST="https://host.example", DATABRICKS_TOKEN="t" * 20)
from mlflow_connections import resolve, use
{setup}
def call():
    {call}
{warm}
begun = time.process_time()
for _ in range({number}):
    call()
print((time.process_time() - begun) / {number})
"""

APPENDED = """
import logging, os, sys, tempfile, time
logging.disable(logging.CRITICAL)
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp()
try:
    from mlflow_connections_outbox import Destination, Event, Outbox, Policy
except ImportError:
    from mlflow_connections_databand.outbox import Destination, Event, Outbox, Policy
outbox = Outbox(Destination("bench", "http://127.0.0.1:9", "nowhere:nothing"), {},
                Policy(exit_timeout=0.0, shipper="thread"))
run = "0123456789abcdef0123456789abcdef"
def data(n):
    return {"run": run, "metrics": [["loss", n * 0.1, 1_700_000_000_000 + n, n]]}
for n in range(200):
    outbox.append(Event(run, "logged", 1_700_000_000_000 + n, data(n)))
times = []
for n in range(5_000):
    row = data(n)
    begun = time.perf_counter()
    outbox.append(Event(run, "logged", 1_700_000_000_000 + n, row))
    times.append(time.perf_counter() - begun)
print(sorted(times)[len(times) // 2], flush=True)
os._exit(0)
"""

COPIED = """
import logging, os, sys, tempfile, time
folder = tempfile.mkdtemp()
os.environ.update(XDG_STATE_HOME=folder, MLFLOW_DISABLE_TELEMETRY="true", DBND__CORE__DATABAND_ACCESS_TOKEN="t",
                  DATABAND_TOKEN="t", DATABAND_ACCESS_TOKEN="t")
import mlflow
logging.disable(logging.CRITICAL)
from mlflow_connections_databand import connection
uri = connection.tracking_uri({}, {"databand_url": "http://127.0.0.1:9",
    "duplicate_tracking_to": "sqlite:///" + folder + "/mlflow.db"})
mlflow.set_tracking_uri(uri)
mlflow.start_run()
for n in range(20):
    mlflow.log_metric("loss", 0.1 * n, step=n)
times = []
for n in range(300):
    begun = time.process_time()
    mlflow.log_metric("loss", 0.1 * n, step=n)
    times.append(time.process_time() - begun)
print(sorted(times)[len(times) // 2], flush=True)
os._exit(0)
"""


class Side(NamedTuple):
    """One of the two environments.

    Attributes:
        python: Its interpreter.
    """

    python: str

    @classmethod
    def of(cls, folder: str) -> "Side":
        """Return the side of a virtual environment."""
        (python,) = [p for p in Path(folder).resolve().glob("*/python*") if p.stem == "python"]
        return cls(str(python))

    def printed(self, code: str) -> float:
        """Return the number that a program prints."""
        done = subprocess.run(
            [self.python, "-c", code], capture_output=True, text=True, check=False, env=ENVIRON
        )
        if done.returncode:
            sys.exit(f"{self.python} failed:\n{code}\n{done.stderr}")
        return float(done.stdout.split()[-1])

    def started(self, code: str) -> None:
        """Run a program to its end."""
        subprocess.run([self.python, "-c", code], check=True, capture_output=True, env=ENVIRON)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", help="the environment with the earlier commit's packages")
    parser.add_argument("new", help="the environment with the packages as they are")
    keys = ", ".join(ROWS)
    parser.add_argument("--only", default="", help=f"the rows whose key has this text: {keys}")
    arguments = parser.parse_args()
    old, new = Side.of(arguments.old), Side.of(arguments.new)
    rows = [row(old, new) for name, row in ROWS.items() if arguments.only in name]
    print(table(rows))


def whole(name: str, code: str) -> Callable[[Side, Side], Row]:
    """Compare the CPU time of whole processes."""

    def compare(old: Side, new: Side) -> Row:
        for side in (old, new):
            side.started(code)
        before, after = interleave(
            lambda: old.started(code), lambda: new.started(code), ROUNDS, children_seconds
        )
        return Row(name, median(before, 1e3), median(after, 1e3), "ms")

    return compare


def printed(name: str, code: str, unit: str) -> Callable[[Side, Side], Row]:
    """Compare the processes' own measurements."""

    def compare(old: Side, new: Side) -> Row:
        found: tuple[list[float], list[float]] = ([], [])
        interleave(
            lambda: found[0].append(old.printed(code)),
            lambda: found[1].append(new.printed(code)),
            ROUNDS,
        )
        factor = {"ms": 1e3, "µs": 1e6}[unit]
        # The first run of each compiles its imports.
        return Row(name, median(found[0][1:], factor), median(found[1][1:], factor), unit)

    return compare


def resolved(call: str, setup: str = "", number: int = 1, warm: str = "") -> str:
    """Return the program that measures one call."""
    return RESOLVED.format(call=call, setup=setup, number=number, warm=warm)


def imported(statement: str, before: str = "from mlflow_connections import use") -> str:
    """Return the program that measures imports one after another."""
    return IMPORTED.format(statement=statement, before=before)


_MLFLOW = "import mlflow"
_DATABAND = (
    'o = {"databand_url": "https://db.example", "duplicate_tracking_to": "sqlite:////tmp/x.db"}; '
    'c = {"DBND__CORE__DATABAND_ACCESS_TOKEN": "t" * 20}'
)
_PLUGINS = ("databricks", "azureml", "databand", "snowflake._connection")
ROWS: dict[str, Callable[[Side, Side], Row]] = {
    "import": whole("import mlflow_connections", "import mlflow_connections"),
    "use": whole("from mlflow_connections import use", "from mlflow_connections import use"),
    **{
        f"import {module}": printed(
            f"import the connection of {module.partition('.')[0]}",
            imported(f"from mlflow_connections_{module} import connection"),
            "ms",
        )
        for module in _PLUGINS
    },
    "import sandbox": printed(
        "import the sandbox", imported("from mlflow_connections_sandbox import Sandbox"), "ms"
    ),
    "import mlflow": whole("import mlflow, with every package installed", _MLFLOW),
    "kedro": printed(
        "import the Kedro hooks",
        imported("import mlflow_connections_kedro._hooks", "import kedro"),
        "ms",
    ),
    "uri": printed(
        "resolve a URI",
        resolved('resolve("http://h.example")', number=5_000, warm="call()"),
        "µs",
    ),
    "keyword first": printed("resolve databricks, first", resolved('resolve("databricks")'), "ms"),
    "keyword again": printed(
        "resolve databricks, again",
        resolved('resolve("databricks")', number=5_000, warm="call()"),
        "µs",
    ),
    "databand first": printed(
        "resolve databand, first", resolved('resolve("databand", c, o)', _DATABAND), "ms"
    ),
    "databand again": printed(
        "resolve databand, again",
        resolved('resolve("databand", c, o)', _DATABAND, 500, "call()"),
        "µs",
    ),
    "block first": printed(
        "a use block of a URI, first, without MLflow",
        resolved('use("http://h.example").__enter__()'),
        "ms",
    ),
    "block again": printed(
        "a use block of a URI, again, with MLflow",
        resolved(
            'b = use("http://h.example"); b.__enter__(); b.__exit__(None, None, None)',
            "import mlflow",
            200,
            "call()",
        ),
        "µs",
    ),
    "append": printed("append an event", APPENDED, "µs"),
    "log_metric": printed("log_metric with a copy, SQLite", COPIED, "µs"),
}


if __name__ == "__main__":
    main()
