"""Fixtures of the tests of durable: a real server behind a proxy that can fail, and a comparison of two servers."""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_connections_events.testing import describe
from mlflow_connections_sandbox import MlflowServer

HERE = Path(__file__).parent


class FaultProxy:
    """Passes requests on to a server, or fails as it is told to.

    Attributes:
        url: The address of the proxy, which stays the same whatever happens to the server.
        target: The host and port of the server behind it.
        token: If it is set, the one bearer token that is not refused with 401.
        mode: `up`, `down` (connections are closed at once), `hang` (no response ever), `busy` (503), `login`
            (an HTML page) or `forbidden` (403).
        lose: A path ending with this is passed on once, and its response is lost.
        requests: Method and path of each request that was passed on.
        kills: How often a test has killed the server.
    """

    def __init__(self, target: str) -> None:
        self.mode = "up"
        self.lose: list[str] = []
        self.requests: list[tuple[str, str]] = []
        self.kills = 0
        self.target = target.removeprefix("http://")
        self.token: str | None = None
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                proxy._handle(self, super().handle_one_request)

            def log_message(self, *_: object) -> None:
                pass

            def _pass_on(self) -> None:
                proxy._pass_on(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _pass_on  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def count(self, ending: str) -> int:
        """Return how many requests to a path were passed on."""
        return sum(path.endswith(ending) for _, path in self.requests)

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, handler: BaseHTTPRequestHandler, go_on: Callable[[], None]) -> None:
        if self.mode == "down":
            handler.close_connection = True
            return
        go_on()

    def _pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        if self.mode == "down":
            handler.close_connection = True
            return
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if self.mode == "hang":
            while self.mode == "hang":
                time.sleep(0.05)
            handler.close_connection = True
            return
        if (answer := _FAULTS.get(self.mode)) is not None:
            _send(handler, *answer)
            return
        if self.token and handler.headers.get("Authorization") != f"Bearer {self.token}":
            _send(handler, 401, b"no", {})
            return
        path = handler.path.partition("?")[0]
        self.requests.append((handler.command, path))
        connection = http.client.HTTPConnection(self.target, timeout=60)
        try:
            headers = {k: v for k, v in handler.headers.items() if k.lower() != "host"}
            connection.request(handler.command, handler.path, body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        for ending in self.lose:
            if path.endswith(ending):
                self.lose.remove(ending)
                handler.close_connection = True
                return
        kept = {k: v for k, v in response.getheaders() if k.lower() not in _HOP_BY_HOP}
        _send(handler, response.status, content, kept)


_HOP_BY_HOP = {"transfer-encoding", "connection", "content-length", "content-encoding"}
_FAULTS: Mapping[str, tuple[int, bytes, Mapping[str, str]]] = {
    "busy": (503, b"busy", {}),
    "login": (200, b"<html>Sign in</html>", {"Content-Type": "text/html"}),
    "forbidden": (403, b"no", {}),
}


def _send(
    handler: BaseHTTPRequestHandler, status: int, content: bytes, headers: Mapping[str, str]
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(content)


@pytest.fixture
def make_proxy() -> Iterator[Callable[[str], FaultProxy]]:
    """Start proxies in front of servers."""
    started: list[FaultProxy] = []

    def make(url: str) -> FaultProxy:
        started.append(FaultProxy(url))
        return started[-1]

    yield make
    for proxy in started:
        proxy.mode = "up"
        proxy.close()


@pytest.fixture
def proxy(mlflow_server: MlflowServer, make_proxy: Callable[[str], FaultProxy]) -> FaultProxy:
    """A proxy in front of the real server of the session."""
    return make_proxy(mlflow_server.url)


@pytest.fixture(autouse=True)
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the outboxes of a test."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "outbox"))
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT", "0")
    return tmp_path / "outbox"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer for a server in this process: a busy machine is no outage. Programs wait as they do."""
    monkeypatch.setattr("mlflow_connections_durable._patience.DEADLINE_SECONDS", 60.0)
    monkeypatch.setattr("mlflow_connections_durable._mlflow.ATTEMPT_SECONDS", 60.0)


class Program:
    """Runs programs that use MLflow, in processes of their own.

    Args:
        folder: Their working directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, uri: str, *arguments: str, **more: str) -> "subprocess.Popen[str]":
        """Start a program of this folder: its name without `.py`, and its arguments."""
        name, *rest = arguments
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, **more}
        return subprocess.Popen(
            [sys.executable, str(HERE / f"{name}.py"), *rest],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run_through(self, *command: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run `mlflow-connections run` with a keyword and options, `--`, and a program to its end."""
        at = command.index("--")
        connection, (name, *rest) = command[:at], command[at + 1 :]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "mlflow_connections", "run", *connection, "--"),
                *(sys.executable, str(HERE / f"{name}.py"), *rest),
            ],
            cwd=self.folder,
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done

    def run(self, uri: str, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end, which must be a good one."""
        process = self.start(uri, *arguments, **more)
        out, error = process.communicate()
        assert process.returncode == 0, error
        return subprocess.CompletedProcess(process.args, 0, out, error)

    def outbox(self, *arguments: str, code: int = 0, **more: str) -> str:
        """Run `mlflow-connections outbox`, and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "mlflow_connections", "outbox", *arguments],
            cwd=self.folder,
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def ship(self, *arguments: str, code: int = 0, **more: str) -> Mapping[str, Any]:
        """Deliver everything, and return what the command reports."""
        text = self.outbox(
            "ship", "--timeout", "600", "--output", "json", *arguments, code=code, **more
        )
        (report,) = json.loads(text)
        found: Mapping[str, Any] = report
        return found


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Runs programs that use MLflow."""
    return Program(tmp_path)


def described(uri: str, experiment: str, **more: Any) -> dict[str, Any]:
    """Describe everything of an experiment, under one name for all experiments."""
    found = describe(uri, experiments=[experiment], exact=False, **more)
    plain: dict[str, Any] = json.loads(json.dumps(found).replace(experiment, "<experiment>"))
    return plain


@pytest.fixture(scope="session")
def plain_training(
    mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The runs of the program `train` without durable, described once for the session."""
    name = "plain training"
    Program(tmp_path_factory.mktemp("plain")).run(mlflow_server.url, "train", name)
    return described(mlflow_server.url, name)


def put_aside(uri: str, experiment: str, registered: str | None = None) -> None:
    """Rename what a program logged: the same names are needed again, since files hold them."""
    client = MlflowClient(uri, uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    client.rename_experiment(found.experiment_id, f"{experiment} {uuid.uuid4().hex}")
    if registered is not None:
        client.rename_registered_model(registered, f"{registered} {uuid.uuid4().hex}")


@pytest.fixture(name="put_aside")
def put_aside_fixture() -> Callable[..., None]:
    """Rename an experiment and a registered model of a server, so that their names are free."""
    return put_aside


Described = Callable[..., dict[str, Any]]


@pytest.fixture(name="described")
def described_fixture() -> Described:
    """The description of everything of an experiment."""
    return described
