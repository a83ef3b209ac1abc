"""Bytecode that nox's environments share: each module of a third-party package is compiled once for all of them.

uv compiles nothing when it installs, so the first process of each new environment compiles its
imports: MLflow with its dependencies takes 5 s of CPU. A compiled module fits another environment
if its source is the same file: same path below `site-packages`, same size, and same modification
time to the nanosecond, which uv's links and clones keep.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from workspace import distributions

_CACHE = "__pycache__"


@contextlib.contextmanager
def shared(environment: Path, cache: Path) -> Iterator[None]:
    """Link an environment's bytecode from a cache, and add newly compiled modules to the cache.

    Args:
        environment: The folder of a virtual environment.
        cache: A folder, created if necessary.
    """
    # Wheels of this repository are new in each session.
    ours = {each.module for each in distributions().values()}
    sites = list(environment.glob("lib/python*/site-packages"))
    for site in sites:
        take(site, cache / site.parent.name, ours)
    try:
        yield
    finally:
        for site in sites:
            keep(site, cache / site.parent.name, ours)


def take(site: Path, cache: Path, left_out: set[str]) -> int:
    """Link compiled modules into a `site-packages` folder.

    Args:
        site: The folder.
        cache: Compiled modules by the identity of their source.
        left_out: Top-level packages to skip.

    Returns:
        The number of links created.
    """
    taken = 0
    for folder in _folders(site, left_out):
        known = cache / folder.relative_to(site)
        if not known.is_dir():
            continue
        compiled = folder / _CACHE
        compiled.mkdir(exist_ok=True)
        for entry in os.scandir(known):
            name, dot, identity = entry.name.rpartition(",")
            if dot and _identity(folder, name) == identity:
                with contextlib.suppress(FileExistsError):
                    os.link(entry.path, compiled / name)
                    taken += 1
    return taken


def keep(site: Path, cache: Path, left_out: set[str]) -> int:
    """Link the compiled modules of a `site-packages` folder into the cache.

    Args:
        site: The folder.
        cache: The folder of the cache.
        left_out: Top-level packages to skip.

    Returns:
        The number of links created.
    """
    kept = 0
    for folder in _folders(site, left_out):
        try:
            compiled = list(os.scandir(folder / _CACHE))
        except FileNotFoundError:
            continue
        known = cache / folder.relative_to(site)
        known.mkdir(parents=True, exist_ok=True)
        for entry in compiled:
            identity = _identity(folder, entry.name)
            if identity and entry.name.endswith(".pyc"):
                with contextlib.suppress(FileExistsError, FileNotFoundError):
                    os.link(entry.path, known / f"{entry.name},{identity}")
                    kept += 1
    return kept


def _folders(site: Path, left_out: set[str]) -> Iterator[Path]:
    """Iterate over a folder and its subfolders, without skipped packages and compiled modules."""
    for folder, below, _ in os.walk(site):
        here = Path(folder)
        below[:] = [
            name for name in below if name != _CACHE and not (here == site and name in left_out)
        ]
        yield here


def _identity(folder: Path, compiled: str) -> str:
    """Return the identity of a compiled module's source, its size and time; empty if there is no source."""
    try:
        found = (folder / f"{compiled.partition('.')[0]}.py").stat()
    except FileNotFoundError:
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}"
