"""Run a command: replace this process with it, or stay while the command needs this process.

If this process stays, the command sees no difference: signals reach it, Ctrl-C and Ctrl-Z affect
both as the terminal sends them to the whole process group, and a shell gets its exit code or the
signal that ended it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

__all__ = ["become", "end_as", "run_to_its_end", "stay"]

# The exit codes of a shell.
NOT_EXECUTABLE = 126
NOT_FOUND = 127

_FORWARDED = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH")
_FROM_THE_TERMINAL = ("SIGINT", "SIGQUIT")
"""The terminal sends these to the command as well."""


def become(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Replace this process with a command, so that signals and the exit code are its own.

    Returns:
        A shell's exit code if the command did not start; on Windows the command's own.
    """
    try:
        if os.name == "posix":
            sys.stdout.flush()
            os.execvpe(command[0], list(command), dict(environment))  # noqa: S606 - no shell is wanted
        return subprocess.run(command, env=dict(environment), check=False).returncode
    except OSError as error:
        return _not_started(command[0], error)


def stay(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end.

    Returns:
        Its exit code. If a signal ended it, the same signal ends this process.
    """
    return end_as(run_to_its_end(command, environment))


def run_to_its_end(
    command: Sequence[str], environment: Mapping[str, str], program: str = "mlflow-connections"
) -> int:
    """Run a command to its end, for a caller who has to clean up after it.

    Args:
        command: The program and its arguments.
        environment: All of its variables.
        program: The name of this process's command, for the message if the other cannot be started.

    Returns:
        Its exit code, or a shell's if it did not start; the negative number of a signal that ended it, for `end_as`.
    """
    sys.stdout.flush()
    process: subprocess.Popen[bytes] | None = None
    waiting: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        if process is None:
            waiting.append(number)  # between the handler's installation and the command's start
        else:
            process.send_signal(number)

    def leave_to_the_terminal(_number: int, _frame: FrameType | None) -> None:
        """Do nothing; SIG_IGN would be inherited."""

    handlers: dict[str, Callable[[int, FrameType | None], None]] = {
        **dict.fromkeys(_FORWARDED, forward),
        **dict.fromkeys(_FROM_THE_TERMINAL, leave_to_the_terminal),
    }
    kept = {}
    for name, handler in handlers.items():
        number = getattr(signal, name, None)
        # Ignored signals, for example under nohup, stay ignored for both.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            kept[number] = signal.signal(number, handler)
    try:
        process = subprocess.Popen(list(command), env=dict(environment))
        for number in waiting:
            process.send_signal(number)
        return process.wait()
    except OSError as error:
        return _not_started(command[0], error, program)
    finally:
        for number, former in kept.items():
            if former is not None:  # one that Python did not set
                signal.signal(number, former)


def end_as(code: int) -> int:
    """Return an exit code; if it is the negative number of a signal, end this process by that signal."""
    if code < 0:
        _end_by(-code)
    return code if code >= 0 else 128 - code


def _end_by(number: int) -> None:
    """End this process with a signal, so that a shell sees how the command ended."""
    try:
        signal.signal(number, signal.SIG_DFL)
    except (OSError, ValueError):
        return  # SIGKILL cannot be handled, and need not be
    finally:
        os.kill(os.getpid(), number)


def _not_started(command: str, error: OSError, program: str = "mlflow-connections") -> int:
    print(f"{program}: {command}: {error.strerror}", file=sys.stderr)
    return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
