"""Files of JSON lines that processes only append to."""

from pathlib import Path

import pytest

from mlflow_connections_events.added_lines import AddedLines, add_line


def test_each_line_is_read_once(tmp_path: Path) -> None:
    """A reader returns the lines since its last call, whichever process wrote them."""
    path = tmp_path / "deep" / "lines.jsonl"
    lines = AddedLines(path)
    assert list(lines.read()) == []
    add_line(path, {"a": 1})
    add_line(path, ["b", 2], durable=True)
    assert list(lines.read()) == [{"a": 1}, ["b", 2]]
    add_line(path, "c")
    assert list(lines.read()) == ["c"]
    assert list(lines.read()) == []
    assert path.stat().st_mode & 0o077 == 0


def test_an_unfinished_line_is_left_for_later(tmp_path: Path) -> None:
    """Its writer may still be writing; one that a killed process left is ignored, without hiding the next."""
    path = tmp_path / "lines.jsonl"
    lines = AddedLines(path)
    path.write_bytes(b'{"a": 1}\n{"half"')
    assert list(lines.read()) == [{"a": 1}]
    with path.open("ab") as file:
        file.write(b": 2}\n")
    assert list(lines.read()) == [{"half": 2}]
    with path.open("ab") as file:
        file.write(b'{"torn"')
    add_line(path, {"b": 3})
    assert list(lines.read()) == [{"b": 3}]


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Only a missing file counts as empty."""
    with pytest.raises(OSError, match="directory"):
        list(AddedLines(tmp_path).read())
