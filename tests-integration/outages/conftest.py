"""Servers of every connection that durable stands in front of, each of which can fail in every way."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pytest
from trainings import Program as Training
from trainings import described, put_aside

from mlflow_connections_sandbox import Fault, MlflowServer, OpenMlflow
from mlflow_connections_sandbox._azure import Azure
from mlflow_connections_sandbox._databricks import Databricks
from mlflow_connections_sandbox._http import ProtectedMlflow
from mlflow_connections_sandbox._stand_in import StandIn

HERE = Path(__file__).parent
KINDS: dict[str, type[StandIn]] = {
    "plain": OpenMlflow,
    "http": ProtectedMlflow,
    "databricks": Databricks,
    "azureml": Azure,
}


class Server(NamedTuple):
    """A server that durable stands in front of.

    Attributes:
        name: The keyword that `server` names, or `plain`.
        stand_in: The server.
    """

    name: str
    stand_in: StandIn

    @property
    def option(self) -> str:
        """Return the value of the option `server`."""
        return self.stand_in.url if self.name == "plain" else self.name

    def experiment(self, name: str) -> str:
        """Return a name that the server allows for an experiment."""
        return f"/Shared/{name}" if self.name == "databricks" else name

    def registered(self, name: str) -> str:
        """Return a name that the server's registry allows."""
        return f"main.default.{name}" if self.name == "databricks" else name

    @property
    def has_traces(self) -> bool:
        """Whether it takes the traces of the trainings; MLflow 2 has no feedback on them."""
        return self.name != "azureml" and not mlflow.__version__.startswith("2.")

    def trainings(self, pause: str) -> tuple[str, ...]:
        """Return the command of all trainings that the server has the API for, and its arguments.

        Args:
            pause: The seconds between two steps.
        """
        more = ("traced",) if self.has_traces else ()
        names = self.experiment("everything"), self.registered("doubling")
        return ("everything", *names, pause, *more)

    @property
    def registry(self) -> Mapping[str, str]:
        """Return the variable that names the registry of `registered`, which old clients need."""
        return {"MLFLOW_REGISTRY_URI": "databricks-uc"} if self.name == "databricks" else {}

    def replace_credentials(self) -> None:
        """Refuse the credentials of all clients, and every token, from now on; `environment` has others."""
        stand_in = self.stand_in
        if isinstance(stand_in, ProtectedMlflow):
            stand_in.client = stand_in.client._replace(client_secret="s+%:another")
            stand_in.revoke()
        elif isinstance(stand_in, Databricks):
            stand_in.access.replace_token()
        else:
            assert isinstance(stand_in, Azure)
            stand_in.account.client_secret = "another"
            stand_in.tokens.revoke()

    def fail(self, how: str) -> None:
        """Refuse connections, hang, or answer every request with a status."""
        if how == "refuses":
            self.stand_in.close()
        elif how == "hangs":
            self.stand_in.faults.inject(Fault(delay=100_000.0, cut=True))
        else:
            headers = (("Retry-After", "60"),)
            fault = Fault(status=int(how), body="busy", content_type="text/plain", headers=headers)
            self.stand_in.faults.inject(fault)

    def recover(self) -> None:
        """Answer again."""
        self.stand_in.faults.clear()
        if not self.stand_in.is_running:
            self.stand_in.start()


def start_server(name: str, mlflow_url: str, folder: Path) -> Server:
    """Start a server in front of an MLflow server."""
    server = Server(name, KINDS[name](mlflow_url, folder / name))
    if isinstance(server.stand_in, Azure):
        server.stand_in.account.has_logged_models = True
    server.stand_in.start()
    return server


@pytest.fixture(autouse=True, scope="session")
def no_progress() -> Iterator[None]:
    """Keep MLflow's progress bars out of the output, which a failed test shows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        yield


@pytest.fixture
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the outboxes of a test."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "outbox"))
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT", "0")
    return tmp_path / "outbox"


@pytest.fixture
def make_server(
    mlflow_server: MlflowServer, tmp_path: Path, outbox: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Server]]:
    """Start servers, which the environment names. Each has been used once on this machine."""
    # MLflow's own retries, which a program without durable waits for.
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR")
    # MLflow waits for a process of its own that imports a model which is logged by autologging.
    monkeypatch.setenv("MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT", "1")
    started: list[Server] = []

    def make(name: str) -> Server:
        server = start_server(name, mlflow_server.url, tmp_path)
        started.append(server)
        for variable, value in {**server.stand_in.environment(), **server.registry}.items():
            monkeypatch.setenv(variable, value)
        if name == "azureml":
            # Only Azure Resource Manager has the address of a workspace.
            words = ("run", "durable", "--option", "server=azureml", "--", sys.executable, "-V")
            subprocess.run([sys.executable, "-m", "mlflow_connections", *words], check=True)
        return server

    yield make
    for server in started:
        server.recover()
        server.stand_in.close()


class Program:
    """A program that waits for a line before it logs.

    Args:
        folder: Its working directory.
        python: The interpreter.
        arguments: The program of this folder, without `.py`, and its arguments.
    """

    def __init__(self, folder: Path, python: str, *arguments: str) -> None:
        name, *rest = arguments
        self._process = subprocess.Popen(
            [python, str(HERE / f"{name}.py"), *rest],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / f"{name}.log").open("wb"),
            text=True,
        )
        self.log = folder / f"{name}.log"

    def wait_until_ready(self) -> None:
        """Wait until it has connected."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line == "ready\n", self.log.read_text(errors="replace")

    def run(self) -> list[str]:
        """Let it go on to its end, and return what it has printed."""
        out, _ = self._process.communicate("\n")
        assert self._process.returncode == 0, self.log.read_text(errors="replace")
        return out.splitlines()

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def start_program(
    tmp_path: Path, outbox: Path, warm_python: str
) -> Iterator[Callable[..., Program]]:
    """Start programs of this folder."""
    started: list[Program] = []

    def start(*arguments: str) -> Program:
        started.append(Program(tmp_path, warm_python, *arguments))
        return started[-1]

    yield start
    for program in started:
        program.close()


Ship = Callable[..., dict[str, Any]]


@pytest.fixture
def ship(tmp_path: Path, outbox: Path) -> Ship:
    """Deliver everything, and return what the command reports."""

    def shipped(*arguments: str) -> dict[str, Any]:
        words = ("outbox", "ship", "--timeout", "300", "--output", "json", *arguments)
        done = subprocess.run(
            [sys.executable, "-m", "mlflow_connections", *words],
            cwd=tmp_path,
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout, done.stderr
        (report,) = json.loads(done.stdout)
        found: dict[str, Any] = report
        return found

    return shipped


@pytest.fixture
def training(tmp_path: Path, outbox: Path) -> Training:
    """Runs the trainings of durable's tests."""
    return Training(tmp_path)


class Plain:
    """The trainings without durable, in front of each server, each run once for the session.

    Args:
        mlflow_server: The MLflow server behind all of them.
        folder: A folder for their files.
    """

    def __init__(self, mlflow_server: MlflowServer, folder: Path) -> None:
        self._mlflow_server, self._folder = mlflow_server, folder
        self._known: dict[str, dict[str, Any]] = {}

    def training(self, name: str) -> dict[str, Any]:
        """Return what a server has after all trainings."""
        if name not in self._known:
            self._known[name] = self._run(name)
        return self._known[name]

    def _run(self, name: str) -> dict[str, Any]:
        folder = self._folder / name
        folder.mkdir()
        server = start_server(name, self._mlflow_server.url, folder)
        try:
            environment = {**server.stand_in.environment(), **server.registry}
            words = server.trainings("0")
            if name == "plain":
                Training(folder).run(server.option, *words, **environment)
            else:
                Training(folder).run_through(name, "--", *words, **environment)
        finally:
            server.stand_in.close()
        found = described(self._mlflow_server.url, server.experiment("everything"), load=True)
        put_aside(
            self._mlflow_server.url,
            server.experiment("everything"),
            server.registered("doubling"),
        )
        return found


@pytest.fixture(scope="session")
def plain(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Plain:
    """The trainings without durable."""
    return Plain(mlflow_server, tmp_path_factory.mktemp("plain"))
