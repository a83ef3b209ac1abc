"""Starting the shipper from the writing process, and checking whether it runs."""

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

# The fork reparents the shipper: the user's own os.wait() never sees it, and it leaves no zombie.
# It comes first, while this is a bare interpreter. The job begins with its length, since the end of
# the pipe may be open in a process that was forked in the meantime.
_START = """
import os, sys
if os.fork(): os._exit(0)
import _thread
import json
job = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))
job = json.loads(job)
sys.path[:] = job["sys_path"]
from importlib import import_module
import_module(job["module"]).main(job)
"""


class Launcher:
    """Ensures that a spool has a shipper: this process's own, or that of another one.

    Everything that a fork could copy is opened while `guard` is held, and belongs to this object.

    Args:
        folder: The spool.
        destination: Its destination.
        policy: `shipper` decides between a process and a thread.
        secrets: The variables that the sink gets in addition to the environment.

    Attributes:
        guard: Held while descriptors are opened; a fork must wait for it.
    """

    def __init__(
        self, folder: Path, destination: Destination, policy: Policy, secrets: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._destination = destination
        self._policy = policy
        self._secrets = dict(secrets)
        # Reentrant because signal handlers may append.
        self.guard = threading.RLock()
        self._in_thread = policy.shipper == "thread"
        self._is_starting = False
        self._has_helper = False
        self._thread: threading.Thread | None = None
        self._spool: Spool | None = None
        self._pipe: int | None = None
        self._job: int | None = None
        self._started_at = float("-inf")
        self._crashes = 0
        self._beside_others = False

    def ensure_soon(self, unauthorized: bool = False) -> None:
        """Start a shipper if there is none, without waiting for it.

        Args:
            unauthorized: The existing shipper, perhaps of another process, has refused credentials.
                This process's credentials may be accepted.
        """
        if unauthorized and time.monotonic() > self._started_at + _OWN_TRY_EVERY:
            self._beside_others = True
        if self._policy.shipper == "none" or not self.guard.acquire(blocking=False):
            return  # or it is being started
        try:
            if self._has_helper or self._is_starting or not self._is_needed():
                return
        finally:
            self.guard.release()
        self._has_helper = True
        try:
            # Not threading.Thread, whose start waits until the thread runs.
            _thread.start_new_thread(self._ensure_quietly, ())
        except RuntimeError:  # the process is ending, or has too many threads
            self._ensure_quietly()

    def wait_for_helper(self, seconds: float) -> None:
        """Wait until the thread that starts a shipper has ended: from Python 3.12 on a fork next to it warns."""
        deadline = time.monotonic() + seconds
        waited = False
        while self._has_helper and time.monotonic() < deadline:
            waited = True
            time.sleep(0.001)
        if waited:
            time.sleep(0.001)  # its thread is about to end

    def ensure(self) -> None:
        """Start a shipper if there is none.

        Raises:
            OSError: The spool cannot be read.
        """
        process: subprocess.Popen[bytes] | None = None
        with self.guard:
            if self._policy.shipper == "none" or self._is_starting or not self._is_needed():
                return
            if not self._in_thread:
                try:
                    process = self._start_process()
                except Exception:  # noqa: BLE001 - no process can be started in this environment
                    self._in_thread = True
            if self._in_thread:
                self._start_thread()
            self._is_starting = process is not None
        if process is not None:
            try:
                self._hand_over(process)
            finally:
                self._is_starting = False

    def close_inherited(self) -> None:
        """Close, in a forked child, the parent's descriptors; closing alone leaves the parent's lock in force."""
        for descriptor in (self._pipe, self._job):
            if descriptor is not None:
                with suppress(OSError):
                    os.close(descriptor)
        if self._spool is not None:
            self._spool.close_inherited()

    def _ensure_quietly(self) -> None:
        try:
            with suppress(Exception):  # the next attempt, or a flush, may succeed
                self.ensure()
        finally:
            self._has_helper = False

    def _is_needed(self) -> bool:
        if self._is_running():
            return False
        if is_locked(self._folder) and not self._beside_others:
            return False
        # A shipper that crashes immediately is not restarted constantly.
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

    def _start_process(self) -> "subprocess.Popen[bytes]":
        """Start the process and keep this side of its pipes, which no Python object owns."""
        if not sys.executable:  # a program that embeds Python
            raise FileNotFoundError("There is no Python to start.")
        self._started_at = time.monotonic()
        self._beside_others = False
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", _START],
                stdin=theirs_in,
                stdout=theirs_out,
                stderr=subprocess.DEVNULL,
                cwd=os.path.abspath(os.sep),  # noqa: PTH100 - holds no folder of the user's
                start_new_session=True,  # Ctrl-C and a closed terminal must not reach it
            )
        except BaseException:
            os.close(ours_in)
            os.close(ours_out)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        # The shipper keeps its end of the other pipe while it lives.
        os.set_blocking(ours_out, False)
        self._job, self._pipe = ours_in, ours_out
        return process

    def _hand_over(self, process: "subprocess.Popen[bytes]") -> None:
        """Send the process its job, and wait for the end of its intermediate parent."""
        job = json.dumps(
            {
                "module": _shipper.__name__,
                "sys_path": [os.path.abspath(entry) for entry in sys.path],  # noqa: PTH100 - "" too
                "folder": str(self._folder),
                "policy": self._policy,
                "secrets": self._secrets,
            }
        ).encode()
        message = memoryview(b"%d\n%b" % (len(job), job))
        try:
            while message and self._job is not None:
                message = message[os.write(self._job, message) :]
        except BrokenPipeError:
            pass  # it crashed; `_is_running` will notice
        finally:
            with self.guard:
                if self._job is not None:
                    os.close(self._job)
                    self._job = None
            process.wait()

    def _start_thread(self) -> None:
        self._spool = spool = Spool(self._folder, self._policy, guard=self.guard)
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
    with suppress(OSError):  # the folder was removed, which a user's terminal need not show
        serve(spool, delivery, policy)
