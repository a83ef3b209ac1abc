"""The setup of every integration test: none of the developer's variables, and a real MLflow server."""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlflow_connections import _mlflow
from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._databricks import Databricks
from mlflow_connections_sandbox.databand import Databand

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests-shared"))
from warm_python import OF_MLFLOW, serving

_FOREIGN = ("AZUREML_", "AZURE_", "DATABAND_", "DATABRICKS_", "DBND_", "MLFLOW_", "SNOWFLAKE_")


@pytest.fixture(autouse=True)
def clean_environment(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Hide the developer's own accounts from a test, and its URIs from the next one."""
    for name in [n for n in os.environ if n.startswith(_FOREIGN)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    # A client that retries for minutes obscures a failure.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    before = dict(os.environ)
    yield
    _reset_mlflow()
    # Some clients write variables that no fixture knows.
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


def _reset_mlflow() -> None:
    """End a run that a failed test left open, and reset both URIs and the active experiment."""
    # Only the stack is cleared: the server of a failed test may be gone.
    _mlflow.active_runs().clear()
    state = _mlflow.read_state()
    _mlflow.write_state(state._replace(tracking_uri=None, registry_uri=None, experiment_id=None))


@pytest.fixture(scope="session")
def sandbox_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for servers that the whole session shares."""
    return tmp_path_factory.mktemp("sandbox")


@pytest.fixture(scope="session")
def mlflow_server(
    start_server: Callable[[Path], MlflowServer], sandbox_folder: Path
) -> MlflowServer:
    """One real MLflow server for the whole session, because it takes seconds to start."""
    return start_server(sandbox_folder / "mlflow")


@pytest.fixture(scope="session")
def start_server(warm_bin: Path) -> Iterator[Callable[..., MlflowServer]]:
    """Starts real MLflow servers from a Python that has imported most, and stops them at the end."""
    started = []

    def start(folder: Path, database: str = "") -> MlflowServer:
        server = MlflowServer(folder, database=database)
        server.python = str(warm_bin / "python")
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.close()


@pytest.fixture
def workspace(
    mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Databricks]:
    """A Databricks workspace in front of the real server, named by the environment."""
    workspace = Databricks(mlflow_server.url, tmp_path / "workspace")
    workspace.start()
    for name, value in workspace.environment().items():
        monkeypatch.setenv(name, value)
    yield workspace
    workspace.close()


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[Databand]:
    """A running Databand tracker, without an MLflow server: the store reaches MLflow itself."""
    tracker = Databand("http://127.0.0.1:9", tmp_path / "databand")
    tracker.start()
    yield tracker
    tracker.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URI of a PostgreSQL database, installed by Debian's package `postgresql`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert found, "this test needs PostgreSQL: install Debian's package postgresql"
    # It refuses to run as root, and other users cannot enter root's temporary folders.
    owner = "postgres" if os.geteuid() == 0 else None
    folder = tempfile.mkdtemp(prefix="postgresql-")
    if owner:
        shutil.chown(folder, owner, owner)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = f"{folder}/data"

    def call(program: str, *arguments: str) -> None:
        subprocess.run(
            [str(found[-1] / program), *arguments],
            check=True,
            user=owner,
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )

    try:
        call("initdb", "-D", data, "-A", "trust", "-U", "mlflow", "--no-sync")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
        call("pg_ctl", "-D", data, "-w", "-o", options, "-l", f"{folder}/log", "start")
        try:
            yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def warm_bin() -> Iterator[Path]:
    """A folder with `python` and console scripts that start warm; see `tests-shared/warm_python.py`."""
    with serving(*OF_MLFLOW) as server:
        yield server.bin


@pytest.fixture
def warm_python(warm_bin: Path) -> str:
    """The path of a Python that has imported MLflow's dependencies, for tests that do not concern its start."""
    return str(warm_bin / "python")


@pytest.fixture
def warm_path(warm_bin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put `python` and the console scripts of this environment on the PATH, started warm."""
    places = [str(warm_bin), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(places))


class FaultProxy:
    """Passes requests on to a server, or fails as configured.

    Attributes:
        url: The address of the proxy, which stays the same whatever happens to the server.
        target: The host and port of the server behind it.
        token: The only accepted bearer token, if any; others are refused with 401.
        mode: `up`, `down` (connections are closed at once), `hang` (no response ever), `busy`
            (503), `login` (an HTML page) or `forbidden` (403).
        cut: Requests whose path ends with this are cut off while their body arrives.
        lose: A request whose path ends with this is passed on once, and its response is lost.
        requests: Method and path of each request that was passed on.
        kills: The number of times that a test has killed the server.
    """

    def __init__(self, target: str) -> None:
        self.mode = "up"
        self.cut: str | None = None
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
        """Return the number of passed-on requests to a path."""
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
        if self.cut and handler.path.partition("?")[0].endswith(self.cut):
            self.requests.append((handler.command, handler.path))
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
