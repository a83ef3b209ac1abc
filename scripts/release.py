"""Prepare the release of one package, or check that a tag is one.

    python scripts/release.py PACKAGE VERSION   dates the changelog, sets the version, prints the tag;
                                                writes the install lines of all pages
    python scripts/release.py --check TAG       tag, version and changelog agree; prints the folder

Commit what the first one changed, and push the tag that it prints. The other packages are not touched.
"""

import argparse
import datetime as dt
import re
import subprocess
import sys
from pathlib import Path

from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parent.parent
UNRELEASED = "## Unreleased"
_VERSION = re.compile(r'(?m)^version = "([^"]+)"$')
_TAG = re.compile(r"([a-z]+(?:-[a-z]+)*)-v(\d[0-9a-z.]*)")


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Run the command line; return 1 after a clear error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", metavar="TAG")
    parser.add_argument("package", nargs="?")
    parser.add_argument("version", nargs="?")
    parsed = parser.parse_args(arguments)
    try:
        if parsed.check:
            print(check(parsed.check, root))
        elif parsed.package and parsed.version:
            today = dt.datetime.now(dt.timezone.utc).date()
            tag = release(parsed.package, parsed.version, today, root)
            write_pages(root)
            print(tag)
        else:
            parser.error("give PACKAGE VERSION, or --check TAG")
    except ValueError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


def release(package: str, version: str, today: dt.date, root: Path) -> str:
    """Date the changelog, set the version, and return the tag.

    Raises:
        ValueError: There is no such package, the version is invalid or not a later one, or the
            changelog has nothing to release. Nothing is changed in these cases.
    """
    project, changelog = files(package, root)
    before, text = current(project), changelog.read_text()
    # The first release has the package's initial version.
    later = Version(before) if f"## {before} " in text else None
    try:
        wanted = Version(version)
    except InvalidVersion:
        raise ValueError(f"'{version}' is not a version; write one like 1.2.0.") from None
    if str(wanted) != version:
        raise ValueError(f"Write the version as {wanted}, not '{version}'.")
    if later is not None and wanted <= later:
        raise ValueError(f"{version} is not later than {before}, which is released.")
    notes = re.search(rf"(?ms)^{UNRELEASED}\n(.*?)(?=^## |\Z)", text)
    if notes is None or not notes[1].strip():
        raise ValueError(f"{changelog.relative_to(root)} has nothing under '{UNRELEASED}'.")
    dated = text.replace(UNRELEASED, f"{UNRELEASED}\n\n## {version} ({today.isoformat()})", 1)
    changelog.write_text(dated)
    project.write_text(_VERSION.sub(f'version = "{version}"', project.read_text(), count=1))
    return f"{package}-v{version}"


def write_pages(root: Path) -> None:
    """Write the pages again: a released package is installed from PyPI from then on."""
    script = root / "scripts" / "pages.py"
    if script.exists():
        subprocess.run([sys.executable, script], check=True, stdout=subprocess.DEVNULL)


def check(tag: str, root: Path) -> str:
    """Return the folder that a tag releases.

    Raises:
        ValueError: It is not a tag of a release, or the version or the changelog differ from it.
    """
    found = _TAG.fullmatch(tag)
    if found is None:
        raise ValueError(f"'{tag}' is not a tag of a release, such as core-v1.2.0.")
    package, version = found.groups()
    project, changelog = files(package, root)
    if current(project) != version:
        raise ValueError(f"{tag}: {project.relative_to(root)} has version {current(project)}.")
    if not re.search(
        rf"(?m)^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", changelog.read_text()
    ):
        raise ValueError(f"{tag}: {changelog.relative_to(root)} has no dated section {version}.")
    return f"packages/{package}"


def files(package: str, root: Path) -> tuple[Path, Path]:
    """Return a package's pyproject.toml and changelog."""
    folder = root / "packages" / package
    if not (folder / "pyproject.toml").is_file():
        names = ", ".join(
            sorted(path.parent.name for path in root.glob("packages/*/pyproject.toml"))
        )
        raise ValueError(f"There is no package '{package}'; there are {names}.")
    return folder / "pyproject.toml", folder / "CHANGELOG.md"


def current(project: Path) -> str:
    """Return the version in a pyproject.toml."""
    found = _VERSION.search(project.read_text())
    if found is None:
        raise ValueError(f"{project} has no line 'version = \"...\"'.")
    return found[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
