"""Fixtures of the duplicating store's tests: a tracker, and ways to duplicate to it."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

import mlflow_connections
from mlflow_connections_outbox._outbox import _shared
from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._databand import Databand


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store to copy, because creating its tables takes 0.6 s of CPU time."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)",
            (str(Path.cwd()), str(path.parent)),
        )
    return path


@pytest.fixture
def sqlite_uri(tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An MLflow store in a file, with artifacts below the test's folder."""
    monkeypatch.chdir(tmp_path)
    path = Path(shutil.copy(sqlite_template, tmp_path / "mlflow.db"))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)",
            (str(sqlite_template.parent), str(tmp_path)),
        )
    return f"sqlite:///{path}"


Duplicate = Callable[..., mlflow_connections.Applied]


@pytest.fixture
def duplicate(tracker: Databand) -> Duplicate:
    """Duplicate the data of a store by the keyword, as a user does."""

    def use(tracking_uri: str) -> mlflow_connections.Applied:
        return mlflow_connections.use(
            "databand",
            {"access_token": tracker.account.token},
            {"databand_url": tracker.url, "duplicate_tracking_to": tracking_uri},
        )

    return use


Deliver = Callable[..., None]


@pytest.fixture
def deliver(tracker: Databand) -> Deliver:
    """Wait until everything captured for the tracker is delivered."""

    def wait(seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        ours = [
            outbox for outbox in _shared.outboxes.values() if outbox.destination.url == tracker.url
        ]
        while left := sum(outbox.flush(5.0) for outbox in ours):
            assert time.monotonic() < deadline, f"{left} events still wait"
            time.sleep(0.1)

    return wait


@pytest.fixture
def dbnd_environment(
    tracker: Databand, mlflow_server: MlflowServer, tmp_path: Path, warm_path: None
) -> Mapping[str, str]:
    """The environment of a process that uses dbnd, for the tests that need the extra `dbnd`.

    Its store is a server: MLflow before 3.7 configures the root logger whenever it opens a
    database, and dbnd's log of a task then feeds itself until memory is exhausted, even without our
    package.
    """
    home = tmp_path / "dbnd"
    home.mkdir()
    variables = dict(tracker.environment())
    # Without it, the current tracking URI is used, as in the specification's example.
    del variables["DBND__MLFLOW_TRACKING__DUPLICATE_TRACKING_TO"]
    return {
        **os.environ,
        **variables,
        "DBND_HOME": str(home),
        "MLFLOW_TRACKING_URI": mlflow_server.url,
        "MLFLOW_EXPERIMENT_NAME": tmp_path.name,
        "PYTHONPATH": str(tmp_path),
    }
