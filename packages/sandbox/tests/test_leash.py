"""A command under `_leash` ends with its owner."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mlflow_connections_sandbox

LEASH = Path(mlflow_connections_sandbox.__file__).with_name("_leash.py")

# Prints its ID and that of a child that would outlive it.
COMMAND = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""


def leash(code: str) -> "subprocess.Popen[bytes]":
    """Start a command as the MLflow server is started."""
    return subprocess.Popen(
        [sys.executable, "-I", str(LEASH), sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def is_alive(process: int) -> bool:
    """Return whether a process still runs; a zombie does not."""
    stat = Path(f"/proc/{process}/stat")
    if stat.exists():
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return not Path("/proc").exists()


def wait_until_gone(processes: list[int]) -> None:
    """Wait up to the time that `_leash` allows."""
    deadline = time.monotonic() + 30
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(is_alive, processes))


def test_closing_standard_input_ends_the_whole_group() -> None:
    """`_leash`, its command and the command's own child are gone."""
    held = leash(COMMAND)
    assert held.stdin is not None
    assert held.stdout is not None
    processes = [int(word) for word in held.stdout.readline().split()]
    held.stdin.close()
    held.wait()
    held.stdout.close()
    wait_until_gone(processes)


def test_a_command_that_ignores_signals_is_killed() -> None:
    """A command that ignores the end of its owner is killed."""
    held = leash("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + COMMAND)
    assert held.stdin is not None
    assert held.stdout is not None
    processes = [int(word) for word in held.stdout.readline().split()]
    held.stdin.close()
    held.wait()
    held.stdout.close()
    wait_until_gone(processes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_owner_leaves_nothing_behind(number: signal.Signals) -> None:
    """Even an owner that cannot clean up leaves nothing behind."""
    owner = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            (
                "import subprocess, sys, time\n"
                f"subprocess.Popen([sys.executable, '-I', {str(LEASH)!r}, sys.executable, '-c', "
                f"{COMMAND!r}], stdin=subprocess.PIPE, start_new_session=True)\n"
                "time.sleep(600)"
            ),
        ],
        stdout=subprocess.PIPE,
    )
    assert owner.stdout is not None
    processes = [int(word) for word in owner.stdout.readline().split()]
    assert all(map(is_alive, processes))
    owner.send_signal(number)
    owner.wait()
    owner.stdout.close()
    wait_until_gone(processes)


def test_a_command_that_ends_ends_the_leash() -> None:
    """A server that fails to start is detected immediately."""
    held = leash("raise SystemExit(3)")
    held.wait(timeout=60)
    assert held.stdin is not None
    assert held.stdout is not None
    held.stdin.close()
    held.stdout.close()
