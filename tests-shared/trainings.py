"""Programs that log to MLflow, plain or through a connection, and the description of what has arrived.

The programs are those of `tests-integration/durable`. Not every group of tests has the packages that this
module imports.
"""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from mlflow_connections_events.testing import describe

OF_MLFLOW = ("models/*/tags/mlflow.modelVersions",)
"""MLflow's client repeats a tag that its server wrote, with a number instead of text."""
TIMINGS = ("*_time*", "*/model.pkl", "*/files/cv_results.csv", "*/files/estimator.html")
"""Estimators of scikit-learn contain the times of their fits, and their pictures random names."""
MEASURED = ("traces/*/duration", "traces/*/metadata/mlflow.trace.size*")
"""A duration may be 0 ms, and the client counts the bytes of a trace with the IDs that it knows."""
PROGRAMS = Path(__file__).resolve().parents[1] / "tests-integration" / "durable"


def through(*command: str) -> list[str]:
    """Return `mlflow-connections run` with a keyword and options, `--`, and a program of `PROGRAMS`."""
    at = command.index("--")
    connection, (name, *rest) = command[:at], command[at + 1 :]
    return [
        *(sys.executable, "-m", "mlflow_connections", "run", *connection, "--"),
        *(sys.executable, str(PROGRAMS / f"{name}.py"), *rest),
    ]


class Program:
    """Runs programs that use MLflow, in separate processes.

    Args:
        folder: Their working directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, uri: str, *arguments: str, **more: str) -> "subprocess.Popen[str]":
        """Start a program of `PROGRAMS`: its name without `.py`, and its arguments."""
        name, *rest = arguments
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, **more}
        return subprocess.Popen(
            [sys.executable, str(PROGRAMS / f"{name}.py"), *rest],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run_through(self, *command: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run `mlflow-connections run` with a keyword and options, `--`, and a program to its end."""
        done = subprocess.run(
            through(*command),
            cwd=self.folder,
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done

    def run(self, uri: str, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end, which must be successful."""
        process = self.start(uri, *arguments, **more)
        out, error = process.communicate()
        assert process.returncode == 0, error
        return subprocess.CompletedProcess(process.args, 0, out, error)

    def outbox(self, *arguments: str, code: int = 0, **more: str) -> str:
        """Run `mlflow-connections outbox`, and return its output."""
        done = subprocess.run(
            [sys.executable, "-m", "mlflow_connections", "outbox", *arguments],
            cwd=self.folder,
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def ship(self, *arguments: str, code: int = 0, **more: str) -> Mapping[str, Any]:
        """Deliver everything, and return the command's report."""
        text = self.outbox(
            "ship", "--timeout", "600", "--output", "json", *arguments, code=code, **more
        )
        (report,) = json.loads(text)
        found: Mapping[str, Any] = report
        return found


def dead_letters(outbox: Path) -> list[str]:
    """Return the reasons of all events that a server refused, whichever process delivered them."""
    lines = [
        line
        for path in outbox.glob("*/dead_letters*.jsonl")
        for line in path.read_text().splitlines()
    ]
    return [json.loads(line)["reason"] for line in lines]


def described(uri: str, experiment: str, **more: Any) -> dict[str, Any]:
    """Describe the whole experiment, under one name for all experiments."""
    found = describe(uri, experiments=[experiment], exact=False, **more)
    plain: dict[str, Any] = json.loads(json.dumps(found).replace(experiment, "<experiment>"))
    return plain


def put_aside(uri: str, experiment: str, registered: str | None = None) -> None:
    """Rename the data of a program: the same names are needed again, since files contain them."""
    client = MlflowClient(uri, uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    client.rename_experiment(found.experiment_id, f"{experiment} {uuid.uuid4().hex}")
    if registered is not None:
        client.rename_registered_model(registered, f"{registered} {uuid.uuid4().hex}")
