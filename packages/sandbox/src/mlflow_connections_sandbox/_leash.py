"""Run a command that ends with its owner, however the owner ends: `python _leash.py COMMAND…`.

The owner holds the other end of standard input. When it closes, because the owner closed it, was killed
or crashed, the whole process group is ended: this process, the command and all that it started.
Needs POSIX.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 5.0
"""The longest wait for the command to end by itself before it is killed."""


def main(command: list[str]) -> None:
    """Run the command until it ends or the owner is gone, then end the process group."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    # Only now, since the command would inherit it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    over = threading.Event()

    def watch_owner() -> None:
        os.read(0, 1)
        over.set()

    def watch_command() -> None:
        process.wait()
        over.set()

    for watch in (watch_owner, watch_command):
        threading.Thread(target=watch, daemon=True).start()
    over.wait()
    group = os.getpgrp()
    os.killpg(group, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=GRACE_SECONDS)
    os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
