"""The end of every console script of the family."""

import pytest

from mlflow_connections.command_line import INTERRUPTED, run_command
from mlflow_connections.secrets import remember


def raising(error: BaseException) -> int:
    """Raise an error, as a command does."""
    raise error


def test_the_code_of_a_command_is_its_own() -> None:
    """The command's return value, or its SystemExit, is the exit code."""
    assert run_command("x", lambda: 3) == 3
    assert run_command("x", lambda: raising(SystemExit(2))) == 2
    assert run_command("x", lambda: raising(SystemExit("why"))) == 1


def test_ctrl_c_ends_it_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C prints no traceback, and the exit code is a shell's."""
    assert run_command("x", lambda: raising(KeyboardInterrupt())) == INTERRUPTED == 130
    assert capsys.readouterr() == ("", "")


def test_an_unexpected_error_shows_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback is printed without the values that must not be shown."""
    remember("s3cr3t-value")
    assert run_command("x", lambda: raising(RuntimeError("it was s3cr3t-value"))) == 1
    shown = capsys.readouterr().err
    assert "RuntimeError" in shown
    assert "s3cr3t-value" not in shown


def test_an_oserror_is_not_a_full_disk(capsys: pytest.CaptureFixture[str]) -> None:
    """An OSError of the command itself is shown with its place, and earlier output stays."""

    def command() -> int:
        print("shown")
        return raising(PermissionError(13, "denied"))

    assert run_command("x", command) == 1
    shown = capsys.readouterr()
    assert shown.out == "shown\n"
    assert "PermissionError" in shown.err
    assert "in raising" in shown.err
