"""Copies of artifacts, from the call that logs them until the server has them.

An upload is one folder, `files/<upload>/<path>`, in the state folder of the spool. A copy shares
its blocks with the original if the file system can (reflink), and is a full copy otherwise; a hard
link would show later changes of the file. `files/<upload>.done` marks a delivered upload, for a
delivery that is repeated after a kill.

A single file of at most `SMALL` bytes has no copy: its content is part of its event, which takes a
third of the time of creating a folder and a file.
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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from mlflow_connections_outbox import Event, Rejected

if sys.platform == "linux":
    import fcntl

FOLDER = "files"
MAX_BYTES = "MLFLOW_CONNECTIONS_DURABLE_MAX_FILE_BYTES"
"""The environment variable that limits the bytes of kept artifacts."""
DEFAULT_MAX_BYTES = 50 << 30
SMALL = 8 << 10
"""The size of the largest file, in bytes, whose content is part of its event."""
_FREE_BYTES = 256 << 20  # below this much free space only the smallest files are kept
_SMALL = 1 << 20
_FICLONE = 0x40049409
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_DONE = ".done"
_DONE_SECONDS = 7 * 86400.0


class CannotKeepError(OSError):
    """The disk of the spool does not take a copy. The original file is not at fault."""


class KeptFiles:
    """The kept files of one spool.

    Args:
        state: The state folder of the spool.
        consume: Whether fetched files are removed once the server has them.
        takes: Whether the spool can be written, so that a later process finds the copies.
        sync: Whether a copy is synced to the disk before it counts as kept.
    """

    def __init__(
        self, state: Path, *, consume: bool = True, takes: bool = True, sync: bool = False
    ) -> None:
        self._folder = state / FOLDER
        self._consume = consume
        self._takes = takes
        self._sync = sync
        self._room = 0
        self._measured_at = float("-inf")

    def keep(self, files: Sequence[tuple[str, Path]]) -> tuple[str, list[int]]:
        """Copy files, each under a path below the root of its owner.

        Returns:
            The name of the upload, and the size of each copy in bytes.

        Raises:
            CannotKeepError: There is no room for a copy, or the folder cannot be written.
            OSError: A file cannot be read.
        """
        if not self._takes:
            raise CannotKeepError(errno.EROFS, os.strerror(errno.EROFS), str(self._folder))
        upload = uuid.uuid4().hex
        folder = self._folder / upload
        sizes = []
        try:
            with _cannot_keep():
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.mkdir(mode=0o700)
            for path, local in files:
                with local.open("rb") as source, _cannot_keep():
                    self._refuse_without_room(os.fstat(source.fileno()).st_size)
                    copy = folder / path
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    sizes.append(_copy(source, copy, sync=self._sync))
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
            Rejected: Copies are missing or damaged, and were not delivered.
        """
        for number, (path, _, _, content) in enumerate(
            r for r in event.data["files"] if len(r) > 3
        ):
            yield path, _unpacked(content, folder / str(number), path)
        for upload, files in _uploads(event):
            kept = self._folder / upload
            if not kept.is_dir():
                if (self._folder / f"{upload}{_DONE}").exists():
                    continue
                raise Rejected(
                    f"The kept copies of artifacts of {event.stream} are gone from {kept}.", [0]
                )
            for path, size in files:
                yield path, _whole(kept / path, size)
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

    def forget(self, events: Iterable[Event] | None) -> None:
        """Remove the copies of events that will never be delivered, or all copies."""
        if events is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        for event in events:
            if event.kind == "artifacts_uploaded":
                for upload, _ in _uploads(event):
                    shutil.rmtree(self._folder / upload, ignore_errors=True)

    def _refuse_without_room(self, size: int) -> None:
        if time.monotonic() > self._measured_at + 10 or self._room < size:
            self._measured_at = time.monotonic()
            free = shutil.disk_usage(self._folder).free - (0 if size < _SMALL else _FREE_BYTES)
            self._room = min(free, _limit() - _bytes_below(self._folder))
        if self._room < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))


@contextmanager
def _cannot_keep() -> Iterator[None]:
    try:
        yield
    except CannotKeepError:
        raise
    except OSError as error:
        raise CannotKeepError(error.errno, error.strerror or str(error), error.filename) from None


def _whole(copy: Path, size: int) -> Path:
    """Return a copy that still has its original length.

    Raises:
        Rejected: It does not: a power failure may lose data that was not synced to the disk.
    """
    left = copy.stat().st_size if copy.is_file() else 0
    if left != size:
        raise Rejected(
            f"The kept copy {copy} has {left:,} of {size:,} bytes; a power cut may have taken the rest.",
            [0],
        )
    return copy


def read_small(local: "str | os.PathLike[str]") -> bytes | None:
    """Read a file that is small enough for its event, or return None for any other.

    Raises:
        OSError: It cannot be read.
    """
    descriptor = os.open(local, _READ)
    try:
        status = os.fstat(descriptor)
        if status.st_size > SMALL or not stat.S_ISREG(status.st_mode):
            return None
        content = os.read(descriptor, SMALL + 1)
    finally:
        os.close(descriptor)
    # Otherwise it is being written, or is not a regular file.
    return content if len(content) == status.st_size else None


def row_of_small(path: str, content: bytes) -> list[Any]:
    """Return the row of an `artifacts_uploaded` event with the content of a file."""
    return [path, len(content), "", b2a_base64(content, newline=False).decode("ascii")]


def _unpacked(content: str, folder: Path, path: str) -> Path:
    file = folder / Path(path).name  # MLflow uploads it under the name of the local file
    folder.mkdir(mode=0o700)
    file.write_bytes(a2b_base64(content))
    return file


def _uploads(event: Event) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """Yield each upload of an event with the paths and sizes of its files."""
    found: dict[str, list[tuple[str, int]]] = {}
    for row in event.data["files"]:
        if len(row) == 3:
            found.setdefault(row[2], []).append((row[0], row[1]))
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


def _copy(source: BinaryIO, copy: Path, *, sync: bool) -> int:
    """Copy a file's content, sharing its blocks if the file system can, and return its size."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(copy, flags, 0o600), "wb") as target:
        if not _reflink(source.fileno(), target.fileno()):
            shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        if sync:
            os.fsync(target.fileno())
        return os.fstat(target.fileno()).st_size


def _reflink(source: int, target: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True
