"""The bootstrap on a machine that has only Python and pip."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import bootstrap
from workspace import ROOT


def test_the_default_command_uses_every_core_up_to_four() -> None:
    """Without arguments nox runs as many sessions in parallel as there are cores."""
    assert bootstrap.nox_arguments([], 1) == ["--parallel", "1"]
    assert bootstrap.nox_arguments([], 2) == ["--parallel", "2"]
    assert bootstrap.nox_arguments([], 64) == ["--parallel", "4"]
    assert bootstrap.cores() >= 1


def test_arguments_are_passed_to_nox() -> None:
    """All arguments go to nox unchanged."""
    given = ["-s", "unit(core)", "-R", "--", "-x"]
    assert bootstrap.nox_arguments(given, 8) == given


def test_each_place_requires_the_same_nox() -> None:
    """The noxfile, the workflows and the bootstrap name one minimum version."""
    assert f'nox.needs_version = "{bootstrap.REQUIREMENT[len("nox[uv]") :]}"' in (
        ROOT / "noxfile.py"
    ).read_text(encoding="utf-8")
    named = [
        found
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for found in re.findall(r'"(nox\b[^"]*)"', path.read_text(encoding="utf-8"))
    ]
    assert named
    assert set(named) == {bootstrap.REQUIREMENT}
