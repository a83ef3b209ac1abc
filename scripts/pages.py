"""Write the generated parts of the documentation: `python scripts/pages.py`, or `--check` to only compare.

Between comments that name them, the pages contain generated parts: the lines that install packages,
the tables of options and the tables of versions. The reference's pages, the packages' links and
every address of this project are generated, too. `docs/addresses.toml` has the addresses. Packages
are installed from Git until their changelogs have a dated section, which `scripts/release.py`
writes.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import compatibility
import install_lines
import option_tables
import reference
from workspace import ROOT, addresses, distributions


def decisions(_: str) -> str:
    """Return the list of all decisions, by number."""
    paths = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    titles = [read(path).partition("\n")[0].removeprefix("# ") for path in paths]
    lines = [f"- [{title}]({path.name})" for path, title in zip(paths, titles, strict=True)]
    return "\n".join([*lines, "", f"<!-- toctree: {' '.join(path.stem for path in paths)} -->"])


WRITERS: dict[str, Callable[[str], str]] = {
    "decisions": decisions,
    "install": install_lines.block,
    "options": option_tables.table,
    "versions": compatibility.table,
}
_PART = re.compile(
    r"(?m)^(?P<begin>(?P<indent> *)<!-- (?P<kind>[a-z]+): (?P<arguments>.*?) -->\n)"
    r".*?(?P<end>^ *<!-- end (?P=kind) -->)",
    re.DOTALL,
)
_REPOSITORY = re.compile(r"https://github\.com/[\w.-]+/mlflow-connections(?=[/#\")\s]|$)")
_URLS = re.compile(r"(?m)^\[project\.urls\]\n(?:[^\[\n].*\n)*")


def main(arguments: list[str]) -> int:
    """Write all parts, or with `--check` print the names of outdated files and return their number."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    parts = list(generated())
    stale = [path for path, text in parts if text != read(path)]
    wanted = reference.pages()
    stale += [path for path in (ROOT / "docs" / "reference").glob("*.md") if path not in wanted]
    for path in stale:
        print(f"{path.relative_to(ROOT)}{' is not as generated' if check else ''}")
    if check:
        return len(stale)
    for path in (ROOT / "docs" / "reference").glob("*.md"):
        if path not in wanted:
            path.unlink()
    for path, text in parts:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


def read(path: Path) -> str:
    """Read a file; the text of a missing one is empty."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def generated() -> Iterator[tuple[Path, str]]:
    """Return every file with generated parts, and its required text."""
    yield from reference.pages().items()
    for path in prose():
        yield path, with_addresses(with_parts(read(path), path))
    for distribution in distributions().values():
        path = distribution.path / "pyproject.toml"
        yield path, with_urls(read(path), distribution.folder)


def prose() -> list[Path]:
    """Return the files that people read."""
    patterns = (
        *("*.md", "docs/*.md", "docs/decisions/index.md", "packages/*/*.md"),
        *(".github/**/*.md", ".github/**/*.yml"),
    )
    starters = ROOT.glob("packages/*/src/**/starter/**/*.md")
    return sorted({*starters, *(path for each in patterns for path in ROOT.glob(each))})


def with_parts(text: str, path: Path) -> str:
    """Return a page's text with its required generated parts.

    Raises:
        ValueError: A part has an unknown kind, or an argument that its writer refuses.
    """

    def written(part: re.Match[str]) -> str:
        if part["kind"] not in WRITERS:
            return part[0]
        try:
            lines = WRITERS[part["kind"]](part["arguments"])
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path.name}, '{part['begin'].strip()}': {error}") from error
        body = "\n".join(f"{part['indent']}{line}".rstrip() for line in lines.splitlines())
        return f"{part['begin']}\n{body}\n\n{part['end']}"

    return _PART.sub(written, text)


def with_addresses(text: str) -> str:
    """Return a text in which each address of this repository is the one in `docs/addresses.toml`."""
    return _REPOSITORY.sub(addresses().repository, text)


GUIDES = {"core": "index", "kedro-import-path": "kedro"}
"""The guides whose names differ from their packages'."""


def with_urls(text: str, folder: str) -> str:
    """Return the text of a pyproject.toml with the links that PyPI shows."""
    repository, site = addresses()
    links = {
        "Documentation": f"{site}/{GUIDES.get(folder, folder)}.html",
        "Changelog": f"{repository}/blob/main/packages/{folder}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
        "Source": f"{repository}/tree/main/packages/{folder}",
    }
    lines = "".join(f'{name} = "{link}"\n' for name, link in links.items())
    return _URLS.sub(f"[project.urls]\n{lines}", text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
