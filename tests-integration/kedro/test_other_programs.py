"""`kedro viz` and `kedro mlflow ui` show the same with this package as with kedro-mlflow alone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

if TYPE_CHECKING:
    from conftest import Project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("kedro_mlflow") is None, reason="needs kedro-mlflow"),
    pytest.mark.skipif(find_spec("kedro_viz") is None, reason="needs kedro-viz"),
]
ALONE = 'DISABLE_HOOKS_FOR_PLUGINS = ("mlflow-connections-kedro",)\n'


def free_port() -> int:
    """Return a free port; kedro-viz accepts none of the range from which the system chooses."""
    for port in range(20000 + os.getpid() % 10000, 49000):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no port is free")


@contextmanager
def serving(project: "Project", path: str, *command: str) -> Iterator[str]:
    """Run a server program, and wait until it responds; return its address."""
    port = free_port()
    folder = os.path.dirname(sys.executable)  # noqa: PTH120 - a text for PATH
    process = subprocess.Popen(
        [sys.executable, "-m", "kedro", *command, "--host", "127.0.0.1", "--port", str(port)],
        cwd=project.folder,
        env={**project.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                urlopen(url + path).close()
                break
            except (URLError, ConnectionError):
                assert process.poll() is None, "the program has ended"
                time.sleep(0.2)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def configure(project: "Project", *, alone: bool) -> None:
    """Configure a project to track to its database: by a keyword, or by its URI with kedro-mlflow alone."""
    project.write("src/shop/settings.py", ALONE if alone else "")
    if alone:
        project.server(mlflow_tracking_uri=project.database)
    else:
        database = project.database.removeprefix("sqlite:///")
        project.server(tracking_uri="lake", connection={"database": database})


def shown_by_mlflow_ui(project: "Project", *, alone: bool) -> Any:
    """Return what `kedro mlflow ui` shows of a run that is created while it is open."""
    from mlflow import MlflowClient

    configure(project, alone=alone)
    with serving(project, "/health", "mlflow", "ui") as url:
        project.run()
        client = MlflowClient(url)
        experiment = client.get_experiment_by_name("shop")
        assert experiment is not None
        return [
            (run.info.status, run.info.run_name, run.data.metrics, run.data.params)
            for run in client.search_runs([experiment.experiment_id])
        ]


def test_mlflow_ui(project: "Project", second: "Project") -> None:
    """`kedro mlflow ui` opens the keyword's store, and shows new runs in it."""
    runs = shown_by_mlflow_ui(project, alone=False)
    assert runs == [("FINISHED", "__default__", {"answer": 2}, {"one": "1", "two": "2"})]
    assert runs == shown_by_mlflow_ui(second, alone=True)


def shown_by_viz(project: "Project", *, alone: bool) -> Any:
    """Return the pipelines that `kedro viz` shows during a run."""
    configure(project, alone=alone)
    with serving(project, "/api/main", "viz", "run", "--no-browser") as url:
        project.run()
        with urlopen(url + "/api/main") as response:
            return in_order(json.load(response))


def in_order(shown: Any) -> Any:
    """Return JSON with all lists sorted: kedro-viz creates them from sets."""
    if isinstance(shown, dict):
        return {key: in_order(value) for key, value in shown.items()}
    if isinstance(shown, list):
        return sorted(map(in_order, shown), key=lambda item: json.dumps(item, sort_keys=True))
    return shown


def test_viz(project: "Project", second: "Project") -> None:
    """`kedro viz` shows the same pipelines, and a simultaneous run arrives in the store."""
    shown = shown_by_viz(project, alone=False)
    assert {node["name"] for node in shown["nodes"]} >= {"first", "second"}
    assert shown == shown_by_viz(second, alone=True)
    assert project.metrics() == second.metrics() == [1, 2]
    assert project.statuses() == second.statuses() == ["FINISHED"]
