"""Run a command that ends with its owner, however the owner ends: `python _leash.py COMMAND…`.

The owner holds the other end of standard input. When it closes, because the owner closed it, was
killed or crashed, the whole process group is killed: this process, the command and all its
children. Needs POSIX.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 5.0
"""The maximum time that the command gets to end by itself before it is killed, in seconds."""


def main(command: list[str]) -> None:
    """Run the command until it ends or the owner is gone, then kill the process group."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    # Set only after the command has started, which would inherit it.
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
