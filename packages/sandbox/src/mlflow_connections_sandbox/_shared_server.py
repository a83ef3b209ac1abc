"""One MLflow server for several processes, such as the workers of pytest-xdist.

Each process holds a shared lock on a file in the folder, which works as a reference count that the
system keeps correct however a process ends. `python -m mlflow_connections_sandbox._shared_server
FOLDER` owns the server and ends it as soon as no process holds the lock.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ._mlflow_server import MlflowServer, has_nonce

_STARTING = "start.lock"
_USERS = "users.lock"
_SERVER = "server.json"
_ENDS_WITHIN = 30.0
"""Seconds that the last process waits for the server to end."""


class SharedMlflowServer(MlflowServer):
    """A server that the first process starts and the last one ends."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._users: int | None = None

    def start(self) -> None:
        """Use the running server, or start it.

        Raises:
            RuntimeError: It did not start; the message contains its last lines of output.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder / _STARTING):
            # Waits while an owner without users ends its server.
            self._users = _lock(self.folder / _USERS, fcntl.LOCK_SH)
            try:
                if not self._is_there():
                    self._launch()
            except BaseException:
                self.close()
                raise

    def _is_there(self) -> bool:
        """Check for the server; another one may use its port by now, and does not know the nonce."""
        try:
            found = json.loads((self.folder / _SERVER).read_text())
        except (OSError, ValueError):
            return False
        self.url, self.nonce = found["url"], found["nonce"]
        return has_nonce(self.url, self.nonce)

    def _launch(self) -> None:
        (self.folder / _SERVER).unlink(missing_ok=True)
        with (self.folder / "owner.log").open("wb") as log:
            owner = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not self._is_there():
            if owner.poll() is not None:
                raise RuntimeError((self.folder / "owner.log").read_text(errors="replace").strip())
            time.sleep(0.1)

    def close(self) -> None:
        """Leave the server; the last process to leave waits until it has ended."""
        users, self._users = self._users, None
        if users is None:
            return
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_last = False
        else:
            is_last = True
        os.close(users)
        until = time.monotonic() + _ENDS_WITHIN
        while is_last and (self.folder / _SERVER).exists() and time.monotonic() < until:
            time.sleep(0.05)


def _lock(file: Path, kind: int) -> int:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, kind)
    return descriptor


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    descriptor = _lock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def main(folder: Path) -> None:
    """Own the server until no process holds the users' lock."""
    try:
        server = MlflowServer(folder)
        server.start()
    except RuntimeError as error:
        raise SystemExit(str(error)) from None
    with closing(server):
        written = folder / f"{_SERVER}.new"
        written.write_text(json.dumps({"url": server.url, "nonce": server.nonce}))
        written.replace(folder / _SERVER)
        last = _lock(folder / _USERS, fcntl.LOCK_EX)
    # Still locked: a new user starts another server.
    (folder / _SERVER).unlink()
    os.close(last)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
