"""Creating a SQLite database of MLflow's while other processes may do the same.

MLflow creates its tables in dozens of steps without a lock: of two processes that open a new database at the
same time, both may fail, one of them with "out-of-date database schema".
"""

import os
import sqlite3
import time
import uuid
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from ._mlflow import build_store, newest_schema

_IDLE_SECONDS = 10.0
"""Seconds without a write after which no process is creating a database any more."""
_LONGEST_SECONDS = 60.0
"""The longest wait in seconds: a database of an older MLflow is never complete, and may be written all the time."""
_ABANDONED_SECONDS = 3_600.0
_POLL_SECONDS = 0.1


def ensure_database(uri: str) -> None:
    """Create the SQLite database of a tracking URI if it does not exist, and wait while another process does.

    It is created under another name, and gets its own name once it is complete. A process that opens it meanwhile
    creates it too; then that one remains.

    Args:
        uri: Any tracking URI; nothing is done unless it names a file of SQLite.
    """
    path = _file_of(uri)
    if path is None or not path.parent.is_dir():
        return
    if not path.exists():
        _create(uri, path)
    until = time.monotonic() + _LONGEST_SECONDS
    while time.time() - _last_write(path) < _IDLE_SECONDS and not _is_complete(path):
        if time.monotonic() > until:
            return
        time.sleep(_POLL_SECONDS)


def artifacts_beside(uri: str) -> str | None:
    """Return the folder for the artifacts of a SQLite database, or None for another tracking URI.

    By default MLflow takes `mlruns` in the working directory, which is `/` in the process that delivers.
    """
    path = _file_of(uri)
    return None if path is None else str(path.absolute().parent / "mlruns")


def _file_of(uri: str) -> Path | None:
    if uri.partition(":")[0].partition("+")[0] != "sqlite":
        return None
    from sqlalchemy.engine import make_url

    named = make_url(uri).database
    is_path = named and named != ":memory:" and not named.startswith("file:")
    return Path(named) if named and is_path else None


def _create(uri: str, path: Path) -> None:
    from sqlalchemy.engine import make_url

    prefix = f".{path.name}.new."
    for left in path.parent.glob(f"{prefix}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                left.unlink()
    new = path.with_name(f"{prefix}{os.getpid()}.{uuid.uuid4().hex[:8]}")
    new_uri = make_url(uri).set(database=str(new)).render_as_string(hide_password=False)
    try:
        place = artifacts_beside(uri)
        store = build_store("tracking", new_uri, store_uri=new_uri, artifact_uri=place)
        store.engine.dispose()
        # Without hard links MLflow creates the database in its place.
        with suppress(OSError):
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)


def _is_complete(path: Path) -> bool:
    """Return whether a database has the newest schema."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            found = database.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error:
        # It has no such table yet, or is locked.
        return False
    return found == [(newest_schema(),)]


def _last_write(path: Path) -> float:
    """Return the time of the last write in seconds, or 0 if there is no file."""
    times = [0.0]
    for suffix in ("", "-journal", "-wal"):
        with suppress(OSError):
            times.append(path.with_name(f"{path.name}{suffix}").stat().st_mtime)
    return max(times)
