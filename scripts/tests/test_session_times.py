"""The measurement of nox's sessions."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from session_times import default_sessions, table
from workspace import ROOT, distributions


def test_the_sessions_are_those_that_nox_runs_by_default() -> None:
    """Each default session is measured, and no tagged one."""
    names = default_sessions()
    assert {"lint", "types", "unit(core)", "integration(kedro)", "dist"} <= set(names)
    assert {f"unit({package})" for package in distributions()} <= set(names)
    assert not [name for name in names if name.startswith(("demo", "bench", "slow", "matrix"))]


def test_the_longest_sessions_begin_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The noxfile's order has each default session once."""
    monkeypatch.syspath_prepend(str(ROOT))
    import noxfile

    assert sorted(noxfile.ORDER) == sorted(default_sessions())
    assert noxfile.ORDER[: len(noxfile.LONGEST)] == noxfile.LONGEST


def test_the_slowest_come_first_and_all_are_summed() -> None:
    """Ten of many sessions are listed, by CPU time, and the last line has the sum of all."""
    lines = table([(float(n), 60.0, f"s{n}") for n in range(12)]).splitlines()
    assert lines[2] == "| `s11` | 11 |"
    assert len(lines) == 2 + 10 + 1
    assert lines[-1] == "| all 12, 12 min one after the other | 66 |"
