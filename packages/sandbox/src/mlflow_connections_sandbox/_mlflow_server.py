"""A real MLflow server in a separate process: SQLite, served artifacts, a loopback port."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import requests

if TYPE_CHECKING:
    from typing_extensions import Self

STARTUP_SECONDS = 180.0
"""The maximum time to wait for a server: importing MLflow on a small busy machine is slow."""

NONCE_HEADER = "X-Sandbox-Nonce"
NONCE_VARIABLE = "SANDBOX_NONCE"

_LEASH = Path(__file__).with_name("_leash.py")
_MLFLOW = Path(__file__).with_name("_mlflow.py")


class MlflowServer:
    """Runs `mlflow server` below a folder until it is closed, or this process ends.

    Its data stays in the folder: another server that starts there shows the same runs.

    Attributes:
        folder: Holds the database, the artifacts and the server's log.
        url: Its URL, once started.
        port: Its port; 0 for any free one.
        database: The URI of its database; a SQLite file in the folder if empty.
        options: Further options of `mlflow server`.
        python: The interpreter that runs it, in which MLflow is installed; at first this process's.
        nonce: The value of the header X-Sandbox-Nonce in each response, once started. Another
            server that uses its port does not know it.
    """

    def __init__(
        self, folder: Path, port: int = 0, database: str = "", options: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.url = ""
        self.port = port
        self.database = database
        self.options = options
        self.python = sys.executable
        self.nonce = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it is healthy.

        Raises:
            RuntimeError: Its port is taken, it ended, or it did not respond in time; the message
                contains the reason and its last lines of output.
        """
        if self.port and not is_free(self.port):
            raise taken("MLflow server", self.port)
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = self.folder.resolve()
        port = self.port or free_port()
        database = self.database or f"sqlite:///{folder / 'mlflow.db'}"
        self.nonce = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{port}"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", str(_LEASH)),
                    *(self.python, str(_MLFLOW), "server"),
                    *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
                    *("--backend-store-uri", database),
                    *("--artifacts-destination", str(folder / "artifacts")),
                    *self.options,
                ],
                env={**_environment(), NONCE_VARIABLE: self.nonce},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal reaches the whole group; the owner decides when the server
                # ends.
                start_new_session=True,
            )
        self._wait_until_healthy()

    @property
    def log(self) -> Path:
        """Return the path of the server's log."""
        return self.folder / "server.log"

    def close(self) -> None:
        """Stop the server with everything that it started."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            # The process in `_leash` waits for this.
            process.stdin.close()
            process.wait()

    def kill(self) -> None:
        """Kill the server immediately with all its children, as a machine crash does.

        `start` starts it again with its data. Give it a fixed port, since a free one would be
        different.

        Raises:
            RuntimeError: It does not run, or another process started it.
        """
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            raise RuntimeError(f"No MLflow server in {self.folder} was started by this process.")
        # The process in `_leash` leads its group.
        os.killpg(process.pid, signal.SIGKILL)
        process.stdin.close()
        process.wait()

    def __enter__(self) -> "Self":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _wait_until_healthy(self) -> None:
        assert self._process is not None  # noqa: S101 - called only by start
        deadline = time.monotonic() + STARTUP_SECONDS
        try:
            while time.monotonic() < deadline and self._process.poll() is None:
                if has_nonce(self.url, self.nonce):
                    return
                time.sleep(0.1)
        except BaseException:
            self.close()
            raise
        self.close()
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        raise RuntimeError(f"The MLflow server did not start; its log ends with:\n{tail}")


def has_nonce(url: str, nonce: str) -> bool:
    """Return whether the MLflow server with a nonce, and no other program, is healthy at a URL."""
    with requests.Session() as session:
        # Loopback is never behind a proxy, whatever the environment contains.
        session.trust_env = False
        try:
            answer = session.get(f"{url}/health", timeout=5, allow_redirects=False)
        except requests.RequestException:
            return False
    return answer.ok and secrets.compare_digest(answer.headers.get(NONCE_HEADER, ""), nonce)


def _environment() -> dict[str, str]:
    """Return this process's variables without those that would direct the server elsewhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    return {
        **kept,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        # Disable several more processes, for features that a sandbox does not need.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def is_free(port: int) -> bool:
    """Return whether no process listens on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def taken(what: str, port: int) -> RuntimeError:
    """Return the error for a port, chosen by the user or at the previous start, that is not free."""
    return RuntimeError(
        f"The port {port} of the {what} is taken by another program: end that program, or choose other ports with --port."
    )


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
