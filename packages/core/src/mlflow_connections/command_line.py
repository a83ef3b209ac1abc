"""A console script that ends cleanly on Ctrl-C, a full disk, a closed pipe or its own error."""

import argparse
import errno
import os
import sys
from collections.abc import Callable
from typing import Any

from .deadline import left_a_thread
from .secrets import UnwritableOutputError, mask, masked_output

__all__ = ["INTERRUPTED", "CommandParser", "add_version", "run_command"]

INTERRUPTED = 130
"""A shell's exit code after Ctrl-C."""


def run_command(program: str, answer: Callable[[], int]) -> int:
    """Run a command with its output masked, and turn its end into an exit code.

    Args:
        program: The name of the console script, for messages.
        answer: The command; it returns an exit code or raises SystemExit.

    Returns:
        The command's exit code; 130 after Ctrl-C; 1 if its output cannot be written, with one sentence
        unless a pipe was closed, or if it raised, with a traceback that shows no secret.
    """
    try:
        with masked_output():
            code = _exit_code(answer)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except UnwritableOutputError as error:
        # The rest of the buffer would fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:  # `mlflow-connections list | head` is not a fault
            print(f"{program}: {mask(error.strerror or str(error))}", file=sys.stderr)
        code = 1
    except Exception:  # noqa: BLE001 - the interpreter would print its secrets
        import traceback

        print(mask(traceback.format_exc()), end="", file=sys.stderr)
        code = 1
    if left_a_thread():
        # A client still waits for its service, and could keep the interpreter alive.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _exit_code(answer: Callable[[], int]) -> int:
    try:
        return answer()
    except SystemExit as leaving:  # argparse, after `--help` or wrong usage
        return leaving.code if isinstance(leaving.code, int) else 1


class CommandParser(argparse.ArgumentParser):
    """A parser whose help fails if it cannot be written; argparse's own ignores that."""

    def print_help(self, file: Any = None) -> None:
        """Print the help.

        Raises:
            OSError: It cannot be written.
        """
        print(self.format_help(), end="", file=file)


def add_version(parser: argparse.ArgumentParser, distribution: str) -> None:
    """Add `--version`, which reads the version from the metadata only on use.

    Args:
        parser: The parser of the console script.
        distribution: The distribution of the script.
    """

    class Version(argparse.Action):
        """Print the version and end."""

        def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
            from importlib.metadata import version

            print(f"{parser.prog} {version(distribution)}")
            parser.exit()

    parser.add_argument("--version", action=Version, nargs=0, help="show the version and exit")
