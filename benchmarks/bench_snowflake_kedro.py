"""The starter's project in Snowflake, both ways: deployed, deployed again unchanged, and run to the end.

It runs on the stand-in of Snowflake, in front of a real MLflow server. The statements are those of
a real account; the times are this machine's. Each task starts its own Python process, which imports
Kedro and MLflow; the last lines show their share of the run.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from _ratio import Row, table

TASKS = ("start", "MLflow run", "split", "train", "evaluate", "end")


def main() -> None:
    """Measure, and print the table."""
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="1", COLUMNS="200")
    from mlflow_connections_sandbox import MlflowServer

    with (
        TemporaryDirectory() as folder,
        MlflowServer(Path(folder) / "mlflow") as server,
    ):
        rows = []
        for answer, way in (("yes", "external access"), ("functions", "external functions")):
            rows += _measure(server, Path(folder) / answer, answer, way)
        print(table(rows))


def _measure(server: Any, folder: Path, answer: str, way: str) -> list[Row]:
    from mlflow_connections_sandbox._snowflake import Snowflake

    folder.mkdir()

    account = Snowflake(server.url, folder / "account", server.folder / "artifacts")
    account.administer()
    account.start()
    python = _runner(folder, account)
    starter = ("--starter", "mlflow-connections-snowflake", "--name", "Wine")
    python("-m", "kedro", "new", *starter, answers=f"{answer}\n")
    project = _runner(folder / "wine", account)
    project("-c", "from mlflow_connections_snowflake._cli import console; console()", "apply")
    command = ("-m", "kedro", "snowflake-mlflow", "run")

    first, first_shown, first_statements = _timed(project, account, *command)
    assert "FINISHED" in first_shown, first_shown
    again, again_shown, again_statements = _timed(project, account, *command, "--no-wait")
    assert "Deployed: nothing changed." in again_shown, again_shown
    assert "FINISHED" in project("-m", "kedro", "snowflake-mlflow", "watch")
    importing, _, _ = _timed(project, account, "-c", "import kedro.framework.session, mlflow")
    account.close()

    seconds = _tasks(first_shown)
    rows = [
        Row(
            f"{way}: deployment, unchanged code: DDL and uploads",
            first_statements,
            again_statements,
            "statements",
            "none",
            again_statements == 0,
        ),
        Row("  unchanged, without waiting, against the whole run", first, again, "s"),
        Row("  command to FINISHED", None, first, "s"),
    ]
    rows += [Row(f"  task {name}", None, seconds[name], "s") for name in TASKS if name in seconds]
    rows.append(Row("  importing Kedro and MLflow, once a task", None, importing, "s"))
    return rows


def _tasks(shown: str) -> dict[str, float]:
    """Return the seconds of each task that was shown as done."""
    found = {}
    for line in shown.splitlines():
        for name in TASKS:
            words = line.split()
            if line.strip().startswith("done") and f" {name} " in line and words[-1] == "s":
                found[name] = float(words[-2])
    return found


def _timed(run: Callable[..., str], account: Any, *arguments: str) -> tuple[float, str, int]:
    """Run a command; return its seconds, its output, and the number of objects or files that it changed."""
    account.statements.clear()
    begun = time.perf_counter()
    shown = run(*arguments)
    seconds = time.perf_counter() - begun
    verbs = ("CREATE STAGE", "PUT ", "CREATE OR REPLACE", "ALTER TASK", "DROP ")
    ran = [one.sql for one in account.statements.matching()]
    own = [sql for sql in ran if sql.startswith(verbs) and "TABLE" not in sql.partition("\n")[0]]
    return seconds, shown, len([sql for sql in own if "WINE__" in sql or "KEDRO_PIPELINES" in sql])


def _runner(folder: Path, account: Any) -> Callable[..., str]:
    def run(*arguments: str, answers: str = "") -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, **account.environment(), "NO_COLOR": "1"},
            input=answers,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


if __name__ == "__main__":
    main()
