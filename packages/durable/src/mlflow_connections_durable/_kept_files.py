"""Copies of artifacts, from the call that logs them until the server has them.

An upload is one folder, `files/<upload>/<path>`, in the state folder of the spool. A copy shares its blocks
with the original where the file system can (reflink), and is a full copy elsewhere; a hard link would show
what the training writes to the file later. `files/<upload>.done` says that an upload was delivered, for a
delivery that is repeated after a kill.

A single file of at most `SMALL` bytes has no copy: its content travels in its event, which takes a third of the
time of creating a folder and a file.
"""

import errno
import os
import shutil
import stat
import sys
import time
import uuid
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow_connections_outbox import Event, Rejected

if sys.platform == "linux":
    import fcntl

FOLDER = "files"
MAX_BYTES = "MLFLOW_CONNECTIONS_DURABLE_MAX_FILE_BYTES"
"""The environment variable that limits the bytes of kept artifacts."""
DEFAULT_MAX_BYTES = 50 << 30
SMALL = 8 << 10
"""The largest file, in bytes, whose content travels in its event."""
_FREE_BYTES = 256 << 20  # stay below this much free space only for the smallest files
_SMALL = 1 << 20
_FICLONE = 0x40049409
_DONE = ".done"
_DONE_SECONDS = 7 * 86400.0


class KeptFiles:
    """The kept files of one spool.

    Args:
        state: The state folder of the spool.
        consume: Whether fetched files are removed once the server has them.
    """

    def __init__(self, state: Path, *, consume: bool = True) -> None:
        self._folder = state / FOLDER
        self._consume = consume
        self._room = 0
        self._measured_at = float("-inf")

    def keep(self, files: Sequence[tuple[str, Path]]) -> tuple[str, list[int]]:
        """Copy files, each under a path below the root of its owner.

        Returns:
            The name of the upload, and the size of each copy in bytes.

        Raises:
            OSError: A file cannot be read, or there is no room for its copy.
        """
        upload = uuid.uuid4().hex
        folder = self._folder / upload
        sizes = []
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
            for path, local in files:
                self._refuse_without_room(local)
                copy = folder / path
                copy.parent.mkdir(parents=True, exist_ok=True)
                sizes.append(_copy(local, copy))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._room -= sum(sizes)
        return upload, sizes

    def path(self, upload: str, path: str) -> Path | None:
        """Return the copy of a file, or None if it was delivered."""
        kept = self._folder / upload / path
        return kept if kept.is_file() else None

    def fetch(self, event: Event, folder: Path) -> Iterable[tuple[str, Path]]:
        """Yield the files of an `artifacts_uploaded` event, and remove kept copies after the last one.

        Raises:
            Rejected: Copies are gone, and were not delivered.
        """
        for number, (path, _, _, content) in enumerate(
            r for r in event.data["files"] if len(r) > 3
        ):
            yield path, _unpacked(content, folder / str(number), path)
        for upload, paths in _uploads(event):
            kept = self._folder / upload
            if not kept.is_dir():
                if (self._folder / f"{upload}{_DONE}").exists():
                    continue
                raise Rejected(
                    f"The kept copies of artifacts of {event.stream} are gone from {kept}.", [0]
                )
            for path in paths:
                yield path, kept / path
            if self._consume:
                self._remove(upload)

    def sweep(self) -> None:
        """Remove the marks of uploads that were delivered long ago."""
        with suppress(OSError):
            for mark in self._folder.glob(f"*{_DONE}"):
                if time.time() - mark.stat().st_mtime > _DONE_SECONDS:
                    mark.unlink()

    def _remove(self, upload: str) -> None:
        (self._folder / f"{upload}{_DONE}").touch(mode=0o600)
        shutil.rmtree(self._folder / upload, ignore_errors=True)

    def _refuse_without_room(self, local: Path) -> None:
        size = local.stat().st_size
        if time.monotonic() > self._measured_at + 10 or self._room < size:
            self._measured_at = time.monotonic()
            free = shutil.disk_usage(self._folder).free - (0 if size < _SMALL else _FREE_BYTES)
            self._room = min(free, _limit() - _bytes_below(self._folder))
        if self._room < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))


def read_small(local: "str | os.PathLike[str]") -> bytes | None:
    """Read a file that is small enough for its event, or return None for any other.

    Raises:
        OSError: It cannot be read.
    """
    descriptor = os.open(local, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if status.st_size > SMALL or not stat.S_ISREG(status.st_mode):
            return None
        content = os.read(descriptor, SMALL + 1)
    finally:
        os.close(descriptor)
    # Else somebody is writing it, or it is none of a disk's files.
    return content if len(content) == status.st_size else None


def row_of_small(path: str, content: bytes) -> list[Any]:
    """Return the row of an `artifacts_uploaded` event with the content of a file."""
    return [path, len(content), "", b2a_base64(content, newline=False).decode("ascii")]


def _unpacked(content: str, folder: Path, path: str) -> Path:
    file = folder / Path(path).name  # MLflow uploads it under the name of the local file
    folder.mkdir(mode=0o700)
    file.write_bytes(a2b_base64(content))
    return file


def _uploads(event: Event) -> Iterator[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for row in event.data["files"]:
        if len(row) == 3:
            found.setdefault(row[2], []).append(row[0])
    yield from found.items()


def _limit() -> int:
    text = os.environ.get(MAX_BYTES, "").strip()
    return int(text) if text.isdigit() else DEFAULT_MAX_BYTES


def _bytes_below(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 - many files
    return total


def _copy(local: Path, copy: Path) -> int:
    """Copy a file's content, sharing its blocks if the file system can, and return its size."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with local.open("rb") as source, os.fdopen(os.open(copy, flags, 0o600), "wb") as target:
        if not _reflink(source.fileno(), target.fileno()):
            shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        return os.fstat(target.fileno()).st_size


def _reflink(source: int, target: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def unreadable(error: OSError) -> bool:
    """Return whether an error is of the file that is logged, and not of the disk that keeps its copy."""
    return isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
