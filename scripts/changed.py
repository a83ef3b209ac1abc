"""Print the sessions that a change needs, as lines for a workflow's outputs.

    python scripts/changed.py BASE      sessions for what differs from a commit; an empty BASE means everything
    python scripts/changed.py --tag T   all sessions with a tag

Each line is `name=JSON list`, such as `unit=["unit(core)"]`.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from workspace import ROOT, distributions, with_siblings

MACOS = ("core", "outbox", "kedro")
"""Packages whose tests also run on macOS, where processes, locks and folders differ."""


class Session(NamedTuple):
    """A session of the noxfile.

    Attributes:
        name: The name for `nox -s`.
        packages: The folders that it installs, for an integration session.
        tests: The folder of its tests below `tests-integration`, for an integration session.
    """

    name: str
    packages: frozenset[str] = frozenset()
    tests: str = ""


def main(arguments: Sequence[str]) -> int:
    """Print the sessions that the command line requests."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tag", metavar="T")
    parser.add_argument("base", nargs="?", default="")
    parsed = parser.parse_args(arguments)
    if parsed.tag:
        print(f"sessions={json.dumps(tagged(parsed.tag))}")
        return 0
    for name, sessions in plan(differing(parsed.base)).items():
        print(f"{name}={json.dumps(sessions)}")
    return 0


def differing(base: str) -> list[str] | None:
    """Return the paths that differ from a commit, or None if there is no commit to compare with."""
    if not base:
        return None
    command = ["git", "diff", "--name-only", f"{base}...HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def plan(paths: Iterable[str] | None) -> Mapping[str, list[str]]:
    """Select sessions for changed paths: those of the changed packages and of all that need them.

    Args:
        paths: Relative to the repository; None means everything changed.
    """
    folders, groups = list(distributions()), integration_groups()
    if paths is None:
        changed, tests, everything = set(folders), set[str](), True
    else:
        found = [path.split("/") for path in paths]
        changed = {parts[1] for parts in found if parts[0] == "packages" and len(parts) > 2}
        tests = {parts[1] for parts in found if parts[0] == "tests-integration" and len(parts) > 2}
        shared = ("noxfile.py", "pyproject.toml", "scripts", "tests-integration", "tests-shared")
        if any(parts[0] == "docs" or parts[-1] == "README.md" for parts in found):
            tests.add("examples")
        everything = any(parts[0] in shared and len(parts) < 3 for parts in found)
    affected = {each for each in folders if changed & set(with_siblings(each))}
    unit = folders if everything else [each for each in folders if each in affected]
    return {
        "unit": [f"unit({each})" for each in unit],
        "integration": [
            each.name
            for each in groups
            if everything or each.packages & changed or each.tests in tests
        ],
        "macos": [f"unit({each})" for each in unit if each in MACOS],
    }


def integration_groups() -> list[Session]:
    """Read the groups of integration tests from the noxfile, with the packages that each installs."""
    sys.path.insert(0, str(ROOT))
    import noxfile

    return [
        Session(
            f"integration({name})",
            frozenset(re.split(r"\[", package)[0] for package in group.packages),
            group.folder,
        )
        for name, group in noxfile.GROUPS.items()
    ]


def tagged(tag: str) -> list[str]:
    """List nox's sessions with a tag."""
    nox = [sys.executable, "-m", "nox", "-f", str(ROOT / "noxfile.py")]
    command = [*nox, "--tags", tag, "--list", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [each["session"] for each in json.loads(done.stdout)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
