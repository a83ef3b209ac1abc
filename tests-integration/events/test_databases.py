"""A new SQLite database that several processes open at the same time."""

import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from mlflow_connections_events import _databases
from mlflow_connections_events._databases import ensure_database
from mlflow_connections_events._mlflow import newest_schema


def write_schema(path: Path, revision: str) -> None:
    """Write the revision of a schema, as MLflow does after each step."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT)")
        database.execute("DELETE FROM alembic_version")
        database.execute("INSERT INTO alembic_version VALUES (?)", [revision])


def test_a_database_that_another_process_is_creating_is_waited_for(tmp_path: Path) -> None:
    """It may be empty or have an older schema, and is never touched before it is complete."""
    path = tmp_path / "new #1.db"
    path.touch()
    waiting = threading.Thread(target=ensure_database, args=[f"sqlite:///{path}?timeout=9"])
    waiting.start()
    write_schema(path, "451aebb31d03")
    time.sleep(3 * _databases._POLL_SECONDS)
    assert waiting.is_alive()
    write_schema(path, newest_schema())
    waiting.join()


def test_an_old_database_is_left_to_mlflow(tmp_path: Path) -> None:
    """Nobody has written it for a while, so nobody is creating it."""
    path = tmp_path / "old.db"
    write_schema(path, "451aebb31d03")
    then = time.time() - 60
    os.utime(path, (then, then))
    ensure_database(f"sqlite:///{path}")
    assert path.stat().st_mtime == pytest.approx(then)


def test_an_old_database_in_use_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of an older MLflow may write it all the time, and its schema stays."""
    path = tmp_path / "used.db"
    write_schema(path, "451aebb31d03")
    later = time.time() + 3_600
    os.utime(path, (later, later))
    monkeypatch.setattr(_databases, "_LONGEST_SECONDS", 0.2)
    ensure_database(f"sqlite:///{path}")
    assert path.stat().st_mtime == pytest.approx(later)


@pytest.mark.parametrize(
    "uri",
    ["http://m", "databricks", "sqlite://", "sqlite:///:memory:", "sqlite:///no-such-folder/m.db"],
)
def test_other_stores_are_left_alone(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server, a database in memory and one in a missing folder are MLflow's own concern."""
    monkeypatch.chdir(tmp_path)
    ensure_database(uri)
    assert list(tmp_path.iterdir()) == []
