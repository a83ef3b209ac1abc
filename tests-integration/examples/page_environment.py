"""An environment with only the packages that a page installs, which reveals a page that needs more."""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOOLS = ("sybil", "pyyaml")
"""The distributions that `run_page.py` imports."""
_INSTALL = re.compile(r"<!-- install: (.*?) -->")
_EDITABLE = re.compile(r"_*editable", re.IGNORECASE)
_OURS = "mlflow-connections"


def installed_by(page: Path) -> list[str]:
    """Return the requirements in a page's install lines."""
    return " ".join(_INSTALL.findall(page.read_text(encoding="utf-8"))).split()


def build(requirements: Iterable[str], folder: Path) -> Path:
    """Create an environment of links to installed distributions, and return its Python.

    Args:
        requirements: The installed packages, which include their dependencies.
        folder: The environment's folder.

    Raises:
        PackageNotFoundError: A distribution is not installed on this machine, so it cannot be
            linked.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    (library,) = folder.glob("lib/python*/site-packages")
    for found in closure(requirements):
        for source, place in files_of(found):
            link(source, library, place)
        for script in found.entry_points.select(group="console_scripts"):
            write_script(folder / "bin" / script.name, python, script.module, script.attr)
    return python


def closure(requirements: Iterable[str]) -> list[Distribution]:
    """Return the distributions of requirements and of their dependencies, each once."""
    wanted = [Requirement(text) for text in requirements]
    seen: set[tuple[str, str]] = set()
    found: dict[str, Distribution] = {}
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            found[name] = distribution(name)
            for text in found[name].requires or ():
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    wanted.append(needed)
    return list(found.values())


def files_of(found: Distribution) -> Iterator[tuple[Path, Path]]:
    """Yield the files of a distribution with their places below `site-packages`.

    A folder that is a package is yielded whole; one without `__init__.py` may be shared with others.
    """
    yielded: set[Path] = set()
    for file in found.files or ():
        parts = file.parts
        if parts[0] in {"..", "__pycache__"} or _EDITABLE.match(parts[0]):
            continue
        place = Path(parts[0])
        for part in parts[1:]:
            whole = Path(str(found.locate_file(place))) / "__init__.py"
            if place.suffix == ".dist-info" or whole.is_file():
                break
            place /= part
        if place not in yielded:
            yielded.add(place)
            yield Path(str(found.locate_file(place))), place
    module = found.name.replace("-", "_")
    if found.name.startswith(_OURS) and Path(module) not in yielded:  # it is editable
        spec = find_spec(module)
        assert spec
        assert spec.submodule_search_locations
        yield Path(spec.submodule_search_locations[0]), Path(module)


def link(source: Path, library: Path, place: Path) -> None:
    """Link a file or a folder, unless it is already linked."""
    target = library / place
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.symlink_to(source)


def write_script(path: Path, python: Path, module: str, attribute: str) -> None:
    """Write a console script, as an installer does."""
    path.write_text(
        f"#!{python}\nimport sys\nfrom {module} import {attribute.partition('.')[0]}\n"
        f"if __name__ == '__main__':\n    sys.exit({attribute}())\n"
    )
    path.chmod(0o755)
