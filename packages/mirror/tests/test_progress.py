"""The progress line of a copy."""

import sys

import pytest

from mlflow_connections_mirror._progress import ProgressLine


def test_a_terminal_shows_the_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bar grows with each item, an item's name moves no cursor, and finally the line is empty."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    progress = ProgressLine()
    progress.expect(1)
    progress.expect(1)
    for name in ("first", "sec\x1bond\n" + "x" * 100):
        progress.show("run", name)
        progress.advance()
    progress.close()
    _, *lines = capsys.readouterr().err.split("\r\x1b[K")
    assert lines[0] == f"[{'-' * 24}] 0/2  run first"
    assert lines[1].startswith(f"[{'#' * 12}{'-' * 12}] 1/2  run sec?ond?xxx")
    assert len(lines[1]) == 79
    assert lines[2] == ""


@pytest.mark.parametrize(("total", "is_terminal"), [(2, False), (0, True)])
def test_nothing_is_written_to_other_outputs(
    total: int,
    is_terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A log file has no changing line, and a copy of nothing has no progress."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    progress = ProgressLine()
    progress.expect(total)
    progress.show("run", "first")
    progress.close()
    assert capsys.readouterr().err == ""
