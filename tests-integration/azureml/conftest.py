"""The stand-in of Azure, and its clients in separate processes.

Azure's clients keep much state for the life of a process: the home folder, credentials, tokens,
caches. Separate processes are therefore realistic, and a process that answers many requests keeps
them cheap.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._azure import Azure
from mlflow_connections_sandbox._azure._account import AzureAccount

ANSWERER = Path(__file__).parent / "answerer.py"
Scripts = Callable[..., Any]


class Client:
    """A process that resolves endpoints, one line of JSON each way."""

    def __init__(self, python: str, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [python, str(ANSWERER)],
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def resolve(
        self,
        credentials: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        environment: Mapping[str, str | None] | None = None,
    ) -> dict[str, Any]:
        """Return the outcome: `uri` or `error` and `message`, `seconds`, and `imported`.

        Args:
            credentials: The connection's credentials.
            options: The connection's options.
            environment: Variables to set first, None to remove one. They stay set.
        """
        question = {
            "credentials": dict(credentials or {}),
            "options": dict(options or {}),
            "environment": dict(environment or {}),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, self.log.read_text(errors="replace")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Kill the process, including calls that still hang."""
        self._process.kill()
        self._process.communicate()


def client_environment(azure: Azure, home: Path, *, signed_in: bool) -> dict[str, str]:
    """Return the variables for a client: those of this process, the stand-in's, and a home."""
    given = azure.environment()
    if not signed_in:
        given = {k: v for k, v in given.items() if "SERVICE_PRINCIPAL" not in k}
    return {**os.environ, **given, "HOME": str(home), "AZURE_CONFIG_DIR": str(home / ".azure")}


@contextmanager
def _started(mlflow_url: str, folder: Path) -> Iterator[Azure]:
    stand_in = Azure(mlflow_url, folder)
    stand_in.start()
    try:
        yield stand_in
    finally:
        stand_in.close()


@contextmanager
def _as_new(stand_in: Azure) -> Iterator[Azure]:
    """Restore the stand-in after a test."""
    yield stand_in
    stand_in.faults.clear()
    stand_in.proxy.refused.clear()
    stand_in.proxy.silent.clear()
    stand_in.cli.recover()
    stand_in.tokens.used_by.clear()
    stand_in.journal.clear()
    for name, value in vars(AzureAccount()).items():
        if isinstance(value, bool) or name == "cloud_name":
            setattr(stand_in.account, name, value)


@pytest.fixture(scope="session")
def azure_service(sandbox_folder: Path) -> Iterator[Azure]:
    """A stand-in for the session without an MLflow server: resolving needs none."""
    with _started("http://127.0.0.1:9", sandbox_folder / "azureml") as stand_in:
        yield stand_in


@pytest.fixture
def azure(azure_service: Azure) -> Iterator[Azure]:
    """A stand-in to resolve with, without faults."""
    with _as_new(azure_service) as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def workspace_service(mlflow_server: MlflowServer, sandbox_folder: Path) -> Iterator[Azure]:
    """A stand-in for the session in front of the real MLflow server."""
    with _started(mlflow_server.url, sandbox_folder / "workspace") as stand_in:
        yield stand_in


@pytest.fixture
def workspace(workspace_service: Azure) -> Iterator[Azure]:
    """A stand-in to log to, without faults."""
    with _as_new(workspace_service) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def client(
    azure_service: Azure, tmp_path_factory: pytest.TempPathFactory, warm_bin: Path
) -> Iterator[Client]:
    """A client with a service principal, shared by the tests of a module."""
    folder = tmp_path_factory.mktemp("client")
    environment = client_environment(azure_service, folder, signed_in=True)
    made = Client(str(warm_bin / "python"), environment, folder / "log")
    yield made
    made.close()


@pytest.fixture(scope="module")
def nobody(
    azure_service: Azure, tmp_path_factory: pytest.TempPathFactory, warm_bin: Path
) -> Iterator[Client]:
    """A client without any sign-in, shared by the tests of a module."""
    folder = tmp_path_factory.mktemp("nobody")
    environment = client_environment(azure_service, folder, signed_in=False)
    made = Client(str(warm_bin / "python"), environment, folder / "log")
    yield made
    made.close()


@pytest.fixture
def run_script(workspace: Azure, tmp_path: Path, warm_python: str) -> Scripts:
    """Runs a script of this folder as a client, and returns its last line of output, as JSON."""

    def run(name: str, *arguments: str, signed_in: bool = True, **environment: str) -> Any:
        base = client_environment(workspace, tmp_path, signed_in=signed_in)
        done = subprocess.run(
            [warm_python, str(ANSWERER.parent / name), *arguments],
            env={**base, **environment},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


TRAIN = """
import mlflow

mlflow.set_experiment("a child")
with mlflow.start_run() as run:
    mlflow.log_metric("rmse", 0.5)
print("rmse", mlflow.MlflowClient().get_run(run.info.run_id).data.metrics["rmse"])
"""


@pytest.fixture
def run_command(workspace: Azure, tmp_path: Path, warm_path: None) -> Scripts:
    """Runs `mlflow-connections` as a client, in a folder with a train.py."""

    def run(*command: str, signed_in: bool = True, **environment: str) -> Any:
        (tmp_path / "train.py").write_text(TRAIN)
        base = client_environment(workspace, tmp_path, signed_in=signed_in)
        return subprocess.run(
            ["mlflow-connections", *command],
            env={**base, **environment},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def run_in_shell(tmp_path: Path, warm_bin: Path) -> Scripts:
    """Runs lines in a shell with only the PATH and a home set, in a folder with a train.py."""

    def run(*lines: str) -> Any:
        (tmp_path / "train.py").write_text(TRAIN)
        places = [str(warm_bin), str(Path(sys.executable).parent), os.environ["PATH"]]
        return subprocess.run(
            ["sh", "-c", "\n".join(lines)],
            env={
                "PATH": os.pathsep.join(places),
                "HOME": str(tmp_path),  # azureml-core cannot be imported without one
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "DO_NOT_TRACK": "1",
            },
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
