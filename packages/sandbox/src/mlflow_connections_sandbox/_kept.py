"""The values that a folder keeps between starts of a sandbox: ports and secrets. One sandbox uses it at a time."""

import fcntl
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path


class KeptValues:
    """Named texts in a file that only its owner may read."""

    def __init__(self, file: Path) -> None:
        """Read the file if it exists.

        Args:
            file: The file with the values; written by `write`.

        Raises:
            ValueError: The file was not written by `write`.
        """
        self._file = file
        self._writing = threading.Lock()
        self._values: dict[str, str] = {}
        if file.exists():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                found = None
            if not isinstance(found, dict):
                raise ValueError(f"{file} does not hold the values of a sandbox: delete it.")
            self._values = {str(name): str(value) for name, value in found.items()}

    def get(self, name: str, make: Callable[[], str]) -> str:
        """Return a value; an unknown one is generated."""
        if name not in self._values:
            self._values[name] = make()
        return self._values[name]

    def keep(self, holder: object, *names: str) -> None:
        """Restore attributes of an object to their values at the previous start."""
        for name in names:
            setattr(holder, name, self.get(name, lambda name=name: str(getattr(holder, name))))  # type: ignore[misc]

    def port(self, name: str) -> int:
        """Return a port; 0 if none is known."""
        return int(self._values.get(name, "0"))

    def put(self, name: str, value: object) -> None:
        """Set a value."""
        self._values[name] = str(value)

    def write(self) -> None:
        """Write the file, completely or not at all."""
        new = self._file.with_suffix(".new")
        with self._writing:
            new.unlink(missing_ok=True)
            new.touch(mode=0o600, exist_ok=False)
            new.write_text(json.dumps(self._values, indent=2), encoding="utf-8")
            new.replace(self._file)


class FolderLock:
    """Locks a folder for one sandbox, until it is closed or the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Acquire the lock.

        Raises:
            RuntimeError: Another sandbox holds it.
        """
        descriptor = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 20).decode(errors="replace").strip()
            os.close(descriptor)
            raise RuntimeError(
                f"The folder {self._folder} belongs to a sandbox that runs (process {owner or 'unknown'}): "
                "stop it, or use another folder."
            ) from None
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor

    def close(self) -> None:
        """Release the folder."""
        if self._descriptor is not None:
            # A process that was forked in the meantime has the descriptor as well.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None
