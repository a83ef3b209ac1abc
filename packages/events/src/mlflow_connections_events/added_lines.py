"""A file of JSON lines that processes only add to, and a reader of what was added since it last looked."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["AddedLines", "add_line"]


def add_line(path: Path, value: Any, *, durable: bool = False) -> None:
    """Add one JSON document to a file, which is created if need be and is then its owner's alone.

    Args:
        path: The file.
        value: The document.
        durable: Whether the line survives a power cut when this returns.

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
    """Reads a file of JSON lines, each of them once. The caller holds a lock where threads share it.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def read(self) -> Iterator[Any]:
        """Yield the documents that were added since the last call, by any process.

        A line that is not finished yet comes with a later call; one that a killed process left unfinished
        never does.

        Raises:
            OSError: The file is there and cannot be read.
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
