"""Starting the shipper from the process that writes, and knowing whether it is there."""

import _thread
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from . import _shipper, _status
from ._delivery import Delivery
from ._files import state_of
from ._interface import Destination, open_sink
from ._policy import Policy
from ._shipper import ENDED_WELL, serve
from ._spool import Spool, is_locked

_MOST_CRASHES = 3
_CRASH_SECONDS = 5.0
_OWN_TRY_EVERY = 30.0

# The fork makes the shipper nobody's child: the user's own os.wait() never meets it, and it leaves
# no zombie. It comes first, while this is a bare interpreter.
_START = """
import os, sys
if os.fork(): os._exit(0)
import _thread
import json
job = json.load(sys.stdin.buffer)
sys.path[:] = job["sys_path"]
from importlib import import_module
import_module(job["module"]).main(job)
"""


class Launcher:
    """Sees to it that a spool has a shipper: this process' own, or that of another one.

    Args:
        folder: The spool.
        destination: What it is for.
        policy: `shipper` decides between a process and a thread.
        secrets: What the sink's factory gets besides the environment.
    """

    def __init__(
        self, folder: Path, destination: Destination, policy: Policy, secrets: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._destination = destination
        self._policy = policy
        self._secrets = dict(secrets)
        # Reentrant for the sake of signal handlers that append.
        self._guard = threading.RLock()
        self._in_thread = policy.shipper == "thread"
        self._thread: threading.Thread | None = None
        self._spool: Spool | None = None
        self._pipe: int | None = None
        self._started_at = float("-inf")
        self._crashes = 0
        self._beside_others = False

    def ensure_soon(self, unauthorized: bool = False) -> None:
        """Have a shipper started if there is none, without waiting for that.

        Args:
            unauthorized: The shipper that there is, perhaps of another process, has credentials
                that are not accepted. This process' may be.
        """
        if unauthorized and time.monotonic() > self._started_at + _OWN_TRY_EVERY:
            self._beside_others = True
        if not self._guard.acquire(blocking=False):
            return  # it is being started
        try:
            if not self._is_needed():
                return
        finally:
            self._guard.release()
        try:
            # Not threading.Thread, whose start waits until the thread runs.
            _thread.start_new_thread(self._ensure_quietly, ())
        except RuntimeError:  # the process is ending, or has too many threads
            self._ensure_quietly()

    def ensure(self) -> None:
        """Start a shipper if there is none.

        Raises:
            OSError: The spool cannot be read.
        """
        with self._guard:
            if not self._is_needed():
                return
            if not self._in_thread:
                try:
                    self._start_process()
                except (OSError, ValueError, subprocess.SubprocessError):
                    self._in_thread = True  # a place where no process can be started
            if self._in_thread:
                self._start_thread()

    def close_inherited(self) -> None:
        """Close, in a forked child, what is the parent's; to close alone leaves its lock in force."""
        if self._pipe is not None:
            os.close(self._pipe)
        if self._spool is not None:
            self._spool.unlock()

    def _ensure_quietly(self) -> None:
        with suppress(OSError):  # the next time, or a flush, may do better
            self.ensure()

    def _is_needed(self) -> bool:
        if self._is_running():
            return False
        if is_locked(self._folder) and not self._beside_others:
            return False
        # One that crashes at once is not started all the time.
        return time.monotonic() >= self._started_at + self._crashes

    def _is_running(self) -> bool:
        if self._thread is not None:
            return self._thread.is_alive()
        if self._pipe is None:
            return False
        try:
            last = os.read(self._pipe, 1)
        except BlockingIOError:
            return True
        pipe, self._pipe = self._pipe, None
        os.close(pipe)
        if last != ENDED_WELL and time.monotonic() < self._started_at + _CRASH_SECONDS:
            self._crashes += 1
            self._in_thread = self._crashes >= _MOST_CRASHES
        else:
            self._crashes = 0
        return False

    def _start_process(self) -> None:
        job = {
            "module": _shipper.__name__,
            "sys_path": [os.path.abspath(entry) for entry in sys.path],  # noqa: PTH100 - "" too
            "folder": str(self._folder),
            "policy": self._policy,
            "secrets": self._secrets,
        }
        self._started_at = time.monotonic()
        self._beside_others = False
        process = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=os.path.abspath(os.sep),  # noqa: PTH100 - holds no folder of the user's
            start_new_session=True,  # Ctrl-C and a closed terminal are not for it
        )
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - pipes
        # The shipper keeps its end for as long as it lives.
        self._pipe = os.dup(process.stdout.fileno())
        os.set_blocking(self._pipe, False)
        process.stdout.close()
        try:
            with process.stdin as pipe:
                pipe.write(json.dumps(job).encode())
        finally:
            process.wait()

    def _start_thread(self) -> None:
        self._spool = spool = Spool(self._folder)
        delivery = Delivery(
            spool,
            lambda: open_sink(self._destination, self._secrets, state_of(self._folder)),
            self._policy,
            lambda status: _status.write(self._folder, status),
        )
        self._thread = threading.Thread(
            target=_serve_quietly,
            args=(spool, delivery, self._policy),
            name=f"outbox of {self._destination.name}",
            daemon=True,
        )
        self._thread.start()


def _serve_quietly(spool: Spool, delivery: Delivery, policy: Policy) -> None:
    with suppress(OSError):  # the folder was removed: nothing that a user's terminal has to show
        serve(spool, delivery, policy)
