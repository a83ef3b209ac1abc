"""Run a command: in this process's place, or while this process stays because the command needs it.

Where this process stays, the command sees what it would see in its place: signals reach it, Ctrl-C and Ctrl-Z act on
both as the terminal sends them to the whole process group, and a shell sees its exit code or the signal that ended it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

__all__ = ["become", "stay"]

# The exit codes of a shell.
NOT_EXECUTABLE = 126
NOT_FOUND = 127

_FORWARDED = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH")
_FROM_THE_TERMINAL = ("SIGINT", "SIGQUIT")
"""The terminal sends these to the command as well."""


def become(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Let a command take this process's place, so that signals and the exit code are its own.

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
    sys.stdout.flush()
    process: subprocess.Popen[bytes] | None = None
    waiting: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        if process is None:
            waiting.append(number)  # between the handler's start and the command's
        else:
            process.send_signal(number)

    for name in _FORWARDED:
        number = getattr(signal, name, None)
        # What was ignored, under nohup for one, stays ignored for both.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, forward)
    kept = {
        number: signal.signal(
            number, lambda *_: None
        )  # a handler, not SIG_IGN: that would be inherited
        for number in (getattr(signal, name, None) for name in _FROM_THE_TERMINAL)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        process = subprocess.Popen(list(command), env=dict(environment))
    except OSError as error:
        return _not_started(command[0], error)
    for number in waiting:
        process.send_signal(number)
    code = process.wait()
    if code < 0:
        _end_by(-code)
    for number, handler in kept.items():
        signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _end_by(number: int) -> None:
    """End this process by a signal, so that a shell sees what ended the command."""
    try:
        signal.signal(number, signal.SIG_DFL)
    except (OSError, ValueError):
        return  # SIGKILL cannot be handled, and need not be
    finally:
        os.kill(os.getpid(), number)


def _not_started(program: str, error: OSError) -> int:
    print(f"mlflow-connections: {program}: {error.strerror}", file=sys.stderr)
    return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
