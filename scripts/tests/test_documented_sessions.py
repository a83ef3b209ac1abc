"""The pages name sessions and tags that the noxfile has."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
_NAMED = re.compile(r"(?:nox|bootstrap\.py) -(?P<kind>[st]) (?P<names>[^`\n]+)")


def defined() -> tuple[set[str], set[str]]:
    """Return the names and the tags of the noxfile's sessions."""
    names, tags = set(), set()
    for node in ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        marks = [ast.unparse(each) for each in node.decorator_list]
        if any(mark.startswith("nox.session") for mark in marks):
            names.add(node.name)
            for found in re.findall(r"tags=\[(.*?)\]", " ".join(marks)):
                tags |= set(re.findall(r"'([\w-]+)'", found))
    return names, tags


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_session_that_a_page_names_exists(page: Path) -> None:
    """Each name behind `-s` is a session, with or without a parameter, and each behind `-t` a tag."""
    names, tags = defined()
    unknown = []
    for found in _NAMED.finditer(page.read_text(encoding="utf-8")):
        words = found["names"].partition(" -")[0].replace('"', "").split()
        known = names if found["kind"] == "s" else tags
        unknown += [word for word in words if word.partition("(")[0] not in known]
    assert unknown == []
