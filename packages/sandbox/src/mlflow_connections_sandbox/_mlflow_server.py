"""A real MLflow server in a process of its own: SQLite, artifacts served, a free port of loopback."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import requests

STARTUP_SECONDS = 180.0
"""How long a server may take to answer: importing MLflow on a busy small machine takes long."""


class MlflowServer:
    """Runs `mlflow server` below a folder until it is closed.

    Attributes:
        folder: Holds the database, the artifacts and the server's log.
        url: Where it answers, once it was started.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "MlflowServer":
        """Start the server and wait until it is healthy.

        Raises:
            RuntimeError: It ended, or did not answer in time; the message holds its last lines.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mlflow", "server"),
                    *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
                    *("--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"),
                    *("--artifacts-destination", str(self.folder / "artifacts")),
                ],
                # The server must not follow a tracking URI that its starter has set, nor phone home.
                env={
                    **{k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")},
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal reaches the whole group; the owner decides when this ends.
                start_new_session=True,
            )
        self._wait_until_healthy()
        return self

    @property
    def log(self) -> Path:
        """The file that the server writes its output to."""
        return self.folder / "server.log"

    def close(self) -> None:
        """Stop the server with everything that it started."""
        if self._process is None:
            return
        if hasattr(os, "killpg"):
            import signal

            try:
                os.killpg(self._process.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        else:
            self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> "MlflowServer":
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _wait_until_healthy(self) -> None:
        assert self._process is not None  # noqa: S101 - called by start alone
        deadline = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if requests.get(f"{self.url}/health", timeout=5).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.1)
        self.close()
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        raise RuntimeError(f"The MLflow server did not come up; its log ends with:\n{tail}")


def free_port() -> int:
    """Give a port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
