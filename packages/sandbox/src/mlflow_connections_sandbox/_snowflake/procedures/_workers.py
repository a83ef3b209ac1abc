"""Start the processes of procedures, forked if possible from a template that has imported Snowpark.

One template serves every account of this process. It is started when the first procedure is
created, so that it is ready by the first call, and it ends with this process. Only Linux forks: on
other systems, libraries that Snowpark loads do not survive it, and each call starts Python.
"""

import atexit
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_FORKS = platform.system() == "Linux"
COPIED = {"_guard.py": "sitecustomize.py", "_secrets.py": "_snowflake.py", "_main.py": "main.py"}
"""The files of this package that a process needs, and their names next to its handler."""
_KEPT = ("PATH", "LANG", "SYSTEMROOT")
"""Variables of this process that a procedure's process needs to run."""


def copy_support(folder: Path) -> None:
    """Copy the support files of a procedure's process into its folder."""
    for source, name in COPIED.items():
        shutil.copyfile(_HERE / source, folder / name)


def kept_environment() -> dict[str, str]:
    """Return the variables of this process that a procedure's process needs."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ}


class RunningProcess:
    """The process of one call.

    Attributes:
        code: Its exit code, once it has ended; negative for a signal.
    """

    def __init__(self) -> None:
        self.code: Future[int] = Future()
        self.pid: Future[int] = Future()

    def kill(self) -> None:
        """Kill the process."""
        if not self.code.done():
            # The process leads its own group, with all its children.
            os.killpg(self.pid.result(), signal.SIGKILL)


def start(job: Path) -> RunningProcess:
    """Start a process for a job.

    Args:
        job: The file of the job, next to the copied support files.
    """
    if _FORKS:
        return _template().start(job)
    return _restart(job)


def warm_up() -> None:
    """Start the template without waiting for it, if this platform has one."""
    if _FORKS:
        _template()


def _restart(job: Path) -> RunningProcess:
    content: dict[str, Any] = json.loads(job.read_text())
    with Path(content["output"]).open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-X", f"snowflake_import_directory={content['imports']}"),
                *(str(job.parent / "main.py"), str(job)),
            ],
            cwd=job.parent,
            env=content["environment"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = RunningProcess()
    running.pid.set_result(process.pid)
    threading.Thread(target=lambda: running.code.set_result(process.wait()), daemon=True).start()
    return running


class _Template:
    """A process that has imported Snowpark and forks."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="procedures-")
        folder = Path(self._folder.name)
        copy_support(folder)
        self._process = subprocess.Popen(
            [sys.executable, str(folder / "main.py"), "--serve"],
            cwd=folder,
            env={**kept_environment(), "HOME": str(folder), "TMPDIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._running: dict[str, RunningProcess] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()
        atexit.register(self.close)

    def close(self) -> None:
        """End the process once nothing more will be started."""
        assert self._process.stdin is not None  # noqa: S101 - it was requested
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()

    def start(self, job: Path) -> RunningProcess:
        """Start a forked process for a job."""
        running = RunningProcess()
        with self._lock:
            self._running[str(job)] = running
            assert self._process.stdin is not None  # noqa: S101 - it was requested
            self._process.stdin.write(os.fsencode(job) + b"\n")
            self._process.stdin.flush()
        return running

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was requested
        for line in self._process.stdout:
            if not line.startswith(b"["):
                continue
            job, event, value = json.loads(line)
            if event == "started":
                self._running[job].pid.set_result(value)
            else:
                self._running.pop(job).code.set_result(value)
        for running in self._running.values():
            running.code.set_exception(RuntimeError("The template of procedures ended."))


_templates: list[_Template] = []
_starting = threading.Lock()


def _template() -> _Template:
    with _starting:
        if not _templates or not _templates[0].is_alive():
            _templates[:] = [_Template()]
        return _templates[0]
