"""A file of JSON lines that processes only append to, and a reader of the lines since its last call."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["AddedLines", "add_line"]


def add_line(path: Path, value: Any, *, durable: bool = False) -> None:
    """Append one JSON document to a file, which is created if necessary and readable only by its owner.

    Args:
        path: The file.
        value: The document.
        durable: Whether the line survives a power failure when this returns.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
    # A leading newline ends the line that a killed process may have left unfinished.
    line = b"\n" + json.dumps(value).encode() + b"\n"
    descriptor = os.open(path, flags, 0o600)
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


class AddedLines:
    """Reads a file of JSON lines, each of them once. If threads share it, the caller holds a lock.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def read(self) -> Iterator[Any]:
        """Yield the documents that were appended since the last call, by any process.

        An unfinished line is returned by a later call; one that a killed process left unfinished
        never is.

        Raises:
            OSError: The file exists and cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                content = file.read()
        except FileNotFoundError:
            return
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            with suppress(ValueError):
                yield json.loads(line)
