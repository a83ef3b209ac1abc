"""What the command line says when nothing can be started."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_connections_sandbox import STAND_INS, Sandbox
from mlflow_connections_sandbox._cli import main


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put back the handlers of signals that the command line sets."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_unknown_stand_in_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The message names what there is, and no folder is made."""
    assert main(["up", "oracle", "--folder", str(tmp_path / "data")]) == 1
    said = capsys.readouterr().err
    assert "no stand-in named oracle" in said
    for name in STAND_INS:
        assert name in said
    assert not (tmp_path / "data").exists()


def test_a_name_given_twice_runs_once(tmp_path: Path) -> None:
    """Repeating a name changes nothing."""
    assert Sandbox(tmp_path, ["databricks", "databricks"]).names == ("databricks",)


def test_help_names_every_stand_in(capsys: pytest.CaptureFixture[str]) -> None:
    """`up --help` lists what can be started."""
    with pytest.raises(SystemExit) as caught:
        main(["up", "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    for name in STAND_INS:
        assert name in said
