"""Shared state of nox processes that run concurrently in one clone: environments, wheels, output folders.

`nox --parallel` starts a process for each session, and a person may start nox again while it runs.
Locks are the operating system's (`flock`), which end with the process that holds them; on systems
without them, such as Windows, nothing is locked.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import IO

ENVIRONMENTS = "NOX_ENVIRONMENTS_OF_THIS_RUN"
"""The variable that passes the folder of a run's environments to the processes that it starts."""
_LEFT_OUT = frozenset({"__pycache__", "tests", "dist", "build"})
_KEPT_DAYS = 7
_held: list[IO[str]] = []


def environments(root: Path) -> Path:
    """Return a folder for the environments of this run that no other run uses: `.nox`, or else `.nox-2`, and so on.

    Args:
        root: The folder of the noxfile.
    """
    if named := os.environ.get(ENVIRONMENTS):
        return Path(named)
    for number in count(1):
        lock = _opened(root / ".nox" / ".cache" / "locks" / f"environments-{number}")
        if _lock(lock, wait=False):
            _held.append(lock)
            break
        lock.close()
    folder = root / (".nox" if number == 1 else f".nox-{number}")
    os.environ[ENVIRONMENTS] = str(folder)
    return folder


@contextlib.contextmanager
def exclusive(lock: Path, log: Callable[[str], object] | None = None) -> Iterator[None]:
    """Wait until no other process holds a lock, and hold it.

    Args:
        lock: A file, created if necessary.
        log: Called with a message before a wait.
    """
    with _opened(lock) as held:
        if not _lock(held, wait=False):
            if log:
                log(f"Waiting for another session or run to release {lock.name!r} ...")
            _lock(held, wait=True)
        yield


def wheel(package: Path, cache: Path, build: Callable[[Path], object]) -> Path:
    """Return the wheel of a package's current files, built unless an earlier run has built it.

    Args:
        package: The folder of the package.
        cache: A folder for wheels by their content, created if necessary.
        build: Builds the wheel into the given folder.
    """
    found = cache / package.name / _digest(package)
    with exclusive(cache / f"{package.name}.lock"):
        if not found.exists():
            _remove_old(found.parent)
            found.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as built:
                build(Path(built, "wheel"))
                Path(built, "wheel").rename(found)
        os.utime(found)
    (path,) = found.glob("*.whl")
    return path


def is_outdated(environment: Path, wheel: Path) -> bool:
    """Return whether an environment has a package from another wheel than this one.

    Args:
        environment: The folder of a virtual environment.
        wheel: The wheel.
    """
    name = wheel.name.partition("-")[0]
    sources = environment.glob(f"lib/python*/site-packages/{name}-*.dist-info/direct_url.json")
    return any(json.loads(path.read_text())["url"] != wheel.as_uri() for path in sources)


def _digest(package: Path) -> str:
    """Return a digest of the names and the contents of the files in a wheel."""
    digest = hashlib.sha256(sys.version.encode())
    for folder, below, names in os.walk(package):
        below[:] = sorted(name for name in below if name not in _LEFT_OUT and name[0] != ".")
        for name in sorted(names):
            path = Path(folder, name)
            data = path.read_bytes()
            digest.update(f"{path.relative_to(package)}\0{len(data)}\0".encode())
            digest.update(data)
    return digest.hexdigest()[:16]


def _remove_old(folder: Path) -> None:
    """Remove the wheels of a package that no recent run has used."""
    for path in folder.glob("*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > _KEPT_DAYS * 24 * 3600:
            shutil.rmtree(path)


def _opened(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a")


def _lock(file: IO[str], *, wait: bool) -> bool:
    """Lock a file until it is closed; return whether it is locked."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
