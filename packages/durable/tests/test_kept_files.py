"""Copies of artifacts until the server has them."""

import os
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections_durable._kept_files import MAX_BYTES, CannotKeepError, KeptFiles
from mlflow_connections_durable.sink import forget_dropped
from mlflow_connections_outbox import Event, Rejected


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A user's file."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return path


def event(upload: str, *paths: str) -> Event:
    """Return the event of an upload."""
    rows: list[Any] = [[path, len(b"weights"), upload] for path in paths]
    return Event("run", "artifacts_uploaded", 1, {"files": rows, "count": len(rows)}, "a:1")


def test_a_copy_keeps_the_files_content(local: Path, tmp_path: Path) -> None:
    """Later changes of the file, and its removal, do not affect the copy."""
    kept = KeptFiles(tmp_path / "state")
    upload, sizes = kept.keep([("deep/model.bin", local)])
    local.write_bytes(b"other")
    local.unlink()
    (found,) = kept.fetch(event(upload, "deep/model.bin"), tmp_path)
    assert sizes == [7]
    assert found[0] == "deep/model.bin"


def test_copies_are_private(local: Path, tmp_path: Path) -> None:
    """No other user can read them."""
    kept = KeptFiles(tmp_path / "state")
    upload, _ = kept.keep([("model.bin", local)])
    path = kept.path(upload, "model.bin")
    assert path is not None
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_copies_are_removed_once_the_server_has_them(local: Path, tmp_path: Path) -> None:
    """After the last upload they are removed, and a repeated delivery does nothing."""
    kept = KeptFiles(tmp_path / "state")
    upload, _ = kept.keep([("a", local), ("b", local)])
    delivery = event(upload, "a", "b")
    contents = [file.read_bytes() for _, file in kept.fetch(delivery, tmp_path)]
    assert contents == [b"weights", b"weights"]
    assert kept.path(upload, "a") is None
    assert list(kept.fetch(delivery, tmp_path)) == []


def test_an_interrupted_upload_keeps_its_copies(local: Path, tmp_path: Path) -> None:
    """They stay until the whole upload is done."""
    kept = KeptFiles(tmp_path / "state")
    upload, _ = kept.keep([("a", local), ("b", local)])
    files = iter(kept.fetch(event(upload, "a", "b"), tmp_path))
    next(files)
    del files
    assert len(list(kept.fetch(event(upload, "a", "b"), tmp_path))) == 2


def test_missing_copies_are_a_dead_letter(local: Path, tmp_path: Path) -> None:
    """If the copies were removed, the event can never be delivered."""
    kept = KeptFiles(tmp_path / "state")
    with pytest.raises(Rejected, match="are gone"):
        list(kept.fetch(event("unknown", "a"), tmp_path))
    assert local.exists()


def test_a_view_keeps_the_copies(local: Path, tmp_path: Path) -> None:
    """Commands that only read deliver nothing."""
    upload, _ = KeptFiles(tmp_path / "state").keep([("a", local)])
    view = KeptFiles(tmp_path / "state", consume=False)
    assert len(list(view.fetch(event(upload, "a"), tmp_path))) == 1
    assert view.path(upload, "a") is not None


def test_the_limit_is_respected(
    local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond it a file is refused, and no part of it stays."""
    monkeypatch.setenv(MAX_BYTES, "10")
    kept = KeptFiles(tmp_path / "state")
    kept.keep([("a", local)])
    with pytest.raises(OSError, match="No space"):
        kept.keep([("b", local), ("c", local)])
    assert len(list((tmp_path / "state" / "files").iterdir())) == 1


def test_a_missing_file_is_the_users_error(tmp_path: Path) -> None:
    """It is raised as by MLflow, and no folder is left behind."""
    kept = KeptFiles(tmp_path / "state")
    with pytest.raises(FileNotFoundError):
        kept.keep([("a", tmp_path / "missing")])
    assert os.listdir(tmp_path / "state" / "files") == []  # noqa: PTH208 - names suffice


def test_copies_of_dropped_events_are_removed(tmp_path: Path) -> None:
    """The copies of one event are removed, or all that are left."""
    kept = KeptFiles(tmp_path / "state")
    (tmp_path / "a.txt").write_text("a")
    uploads = [kept.keep([("a.txt", tmp_path / "a.txt")])[0] for _ in range(2)]
    dropped = Event("run", "artifacts_uploaded", 0, {"files": [["a.txt", 1, uploads[0]]]})
    forget_dropped(tmp_path / "state", [dropped, Event("run", "logged", 0, {})])
    assert [kept.path(upload, "a.txt") is None for upload in uploads] == [True, False]
    forget_dropped(tmp_path / "state", None)
    assert kept.path(uploads[1], "a.txt") is None


def test_a_copy_lost_in_a_power_failure_is_never_uploaded(tmp_path: Path) -> None:
    """It is a dead letter that contains the remaining size."""
    kept = KeptFiles(tmp_path / "state", sync=True)
    (tmp_path / "a.txt").write_text("whole")
    upload, sizes = kept.keep([("a.txt", tmp_path / "a.txt")])
    copy = kept.path(upload, "a.txt")
    assert copy is not None
    copy.write_text("who")
    event = Event("run", "artifacts_uploaded", 0, {"files": [["a.txt", sizes[0], upload]]})
    with pytest.raises(Rejected, match="has 3 of 5 bytes"):
        list(kept.fetch(event, tmp_path))


def test_an_unreadable_file_does_not_blame_the_disk(tmp_path: Path) -> None:
    """The file's own error is raised; a spool that takes nothing raises another."""
    kept = KeptFiles(tmp_path / "state")
    with pytest.raises(FileNotFoundError):
        kept.keep([("a.txt", tmp_path / "missing")])
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(CannotKeepError):
        KeptFiles(tmp_path / "state", takes=False).keep([("a.txt", tmp_path / "a.txt")])
    with pytest.raises(CannotKeepError):
        KeptFiles(tmp_path / "a.txt").keep([("a.txt", tmp_path / "a.txt")])
