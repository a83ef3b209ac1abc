"""The pages and the workflows name sessions and tags that the noxfile has."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
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


@pytest.mark.parametrize("page", [*PAGES, *WORKFLOWS], ids=lambda page: page.name)
def test_a_session_that_a_page_names_exists(page: Path) -> None:
    """Each name behind `-s` is a session, with or without a parameter, and each behind `-t` a tag."""
    names, tags = defined()
    unknown = []
    for found in _NAMED.finditer(page.read_text(encoding="utf-8")):
        words = found["names"].partition(" -")[0].replace('"', "").split()
        known = names if found["kind"] == "s" else tags
        # A workflow's variable holds a name of its matrix, which the next test compares.
        unknown += [word for word in words if word.partition("(")[0] not in {*known, "$SESSION"}]
    assert unknown == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_a_session_in_a_workflows_matrix_exists(workflow: Path) -> None:
    """Each session that a job's matrix lists is in the noxfile; other matrices come from its own list."""
    names, _ = defined()
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values()
    listed = [job.get("strategy", {}).get("matrix", {}).get("session", []) for job in jobs]
    written = {name for each in listed if isinstance(each, list) for name in each}
    assert written - names == set()
    computed = {each for each in listed if isinstance(each, str)}
    assert all(each.startswith("${{ fromJSON(needs.plan.outputs.") for each in computed)
