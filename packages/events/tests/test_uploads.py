"""Uploads to a storage that never overwrites a file, as Azure's client does not."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlflow_connections_events._replaying._artifacts import ArtifactApplier
from mlflow_connections_outbox import Event, Rejected


class BlobAlreadyExistsError(Exception):
    """The error of Azure's storage for a blob that is there."""

    status_code = 409
    error_code = "BlobAlreadyExists"


class Server:
    """A server whose storage is a folder.

    Attributes:
        root: The folder.
        tracking_uri: Its URI, which nothing of this needs.
    """

    tracking_uri = "http://m"

    def __init__(self, root: Path) -> None:
        self.root = root

    def get_run(self, _: str) -> Any:
        """Return a run with its location."""
        return SimpleNamespace(info=SimpleNamespace(artifact_uri=self.root.as_uri()))

    def log_artifact(self, _: str, file: str, folder: str | None) -> None:
        """Write a file that is not there yet."""
        target = self.root / (folder or "") / Path(file).name
        if target.exists():
            raise BlobAlreadyExistsError
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


class Files:
    """The one file of an event."""

    def __init__(self, path: str, local: Path) -> None:
        self._found = path, local

    def fetch(self, _: Event, __: Path) -> Iterable[tuple[str, Path]]:
        """Return it."""
        yield self._found


def upload(server: Server, path: str, local: Path) -> None:
    """Apply an upload of a file to a run."""
    target = cast("Any", SimpleNamespace(client=server, tracking=server, ids=None))
    runs = cast("Any", SimpleNamespace(of=lambda _: "run"))
    applier = ArtifactApplier(target, runs, cast("Any", None), Files(path, local))
    applier.handlers()["artifacts_uploaded"](Event("run", "artifacts_uploaded", 1, {"files": []}))


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server with one file."""
    (tmp_path / "store" / "notes").mkdir(parents=True)
    (tmp_path / "store" / "notes" / "first.txt").write_text("a note")
    return Server(tmp_path / "store")


def test_a_file_that_is_there_is_delivered(server: Server, tmp_path: Path) -> None:
    """The response to its first upload was lost, and the storage refuses the second one."""
    (tmp_path / "first.txt").write_text("a note")
    upload(server, "notes/first.txt", tmp_path / "first.txt")
    assert (server.root / "notes" / "first.txt").read_text() == "a note"


@pytest.mark.parametrize("content", ["A note", "", "a note and more"])
def test_other_content_is_rejected(content: str, server: Server, tmp_path: Path) -> None:
    """One sentence names the file; the one that is there stays."""
    (tmp_path / "first.txt").write_text(content)
    with pytest.raises(
        Rejected, match=r"^The server has a file notes/first.txt of run with another"
    ):
        upload(server, "notes/first.txt", tmp_path / "first.txt")
    assert (server.root / "notes" / "first.txt").read_text() == "a note"
