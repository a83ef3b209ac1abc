"""The guides' ways without an account, in an empty folder: the commands as printed, the sandbox included."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_examples import ROOT, shell

GUIDES = ("azureml", "databand", "databricks")
_SECTION = re.compile(r"(?ms)^## Try it without an account\n.*?(?=^## |\Z)")
_SKIPPED_HERE = '<!--- skip: next "tests-integration/examples/test_try_it.py runs it" --->\n'


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_is_tried_without_an_account(guide: str, tmp_path: Path) -> None:
    """The section's script and its commands run with nothing but what the section installs."""
    (section,) = _SECTION.findall((ROOT / "docs" / f"{guide}.md").read_text(encoding="utf-8"))
    assert _SKIPPED_HERE in section
    page, home, work = tmp_path / f"{guide}.md", tmp_path / "home", tmp_path / "work"
    page.write_text(section.replace(_SKIPPED_HERE, ""), encoding="utf-8")
    for folder in (home, work):
        folder.mkdir()
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("run_page.py")), str(page)],
        cwd=work,
        env=shell(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = [line for line in done.stdout.splitlines() if '"console"' in line and '"why": ""' in line]
    assert len(ran) == 1


def test_every_guide_of_a_service_has_the_section() -> None:
    """Those that have it are those that are tried."""
    having = {
        page.stem for page in ROOT.glob("docs/*.md") if _SECTION.search(page.read_text("utf-8"))
    }
    assert having == {*GUIDES, "snowflake-kedro"}
