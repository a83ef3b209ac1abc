"""The distributions of this workspace, read from their own `pyproject.toml` files.

The noxfile, the scripts and their tests use this module, so that a new folder in `packages/` is
built, typed, tested and released without a list to extend. A process reads each file once.
"""

import functools
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = frozenset({"core", "outbox", "events"})
"""Folders that other distributions import, and that own no keyword."""
_NAME = re.compile(r"[A-Za-z0-9._-]+")


class Distribution(NamedTuple):
    """One folder of `packages/`.

    Attributes:
        folder: Its name below `packages/`.
        project: The `[project]` table of its `pyproject.toml`.
    """

    folder: str
    project: dict[str, Any]

    @property
    def name(self) -> str:
        """Return the name under which it is installed."""
        return distribution_name(self.folder)

    @property
    def module(self) -> str:
        """Return the name under which it is imported."""
        return self.name.replace("-", "_")

    @property
    def path(self) -> Path:
        """Return its folder."""
        return ROOT / "packages" / self.folder

    @property
    def siblings(self) -> tuple[str, ...]:
        """Return the folders of the siblings that it declares as dependencies, core first."""
        declared = [_NAME.match(need) for need in self.project.get("dependencies", ())]
        names = {found[0] for found in declared if found}
        return tuple(each for each in _folders() if distribution_name(each) in names)


class Addresses(NamedTuple):
    """The addresses of this project, from `docs/addresses.toml`.

    Attributes:
        repository: The repository's page.
        site: The documentation, without a slash at the end.
    """

    repository: str
    site: str


@functools.cache
def addresses() -> Addresses:
    """Read the addresses of this project."""
    text = (ROOT / "docs" / "addresses.toml").read_text(encoding="utf-8")
    return Addresses(**tomllib.loads(text))


def distribution_name(folder: str) -> str:
    """Return the name under which the distribution in a folder is installed; core's has no suffix."""
    return "mlflow-connections" + ("" if folder == "core" else f"-{folder}")


@functools.cache
def distributions() -> dict[str, Distribution]:
    """Read all distributions, by folder. A distribution comes after its dependencies."""
    found = {folder: Distribution(folder, _project(folder)) for folder in _folders()}
    ordered: dict[str, Distribution] = {}

    def add(folder: str) -> None:
        if folder not in ordered:
            for sibling in found[folder].siblings:
                add(sibling)
            ordered[folder] = found[folder]

    for folder in found:
        add(folder)
    return ordered


def with_siblings(folder: str) -> list[str]:
    """Return a distribution's folder, after the folders of all distributions that it needs."""
    found = distributions()
    needed: list[str] = []

    def add(each: str) -> None:
        for sibling in found[each].siblings:
            add(sibling)
        if each not in needed:
            needed.append(each)

    add(folder)
    return needed


@functools.cache
def _folders() -> list[str]:
    names = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))
    return sorted(names, key=lambda name: (name != "core", name))


def _project(folder: str) -> dict[str, Any]:
    text = (ROOT / "packages" / folder / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]
    return project
