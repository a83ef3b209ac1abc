"""The stand-in of Snowflake in front of the real MLflow server, with real clients connected to it."""

import atexit
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._snowflake import BASES, Snowflake
from mlflow_connections_snowflake import BridgeConfig, apply, load, statements

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from snowflake.snowpark import Session


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave artifacts on the second and third cloud to the slow session: only the stage's URL differs."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        cloud = callspec.params.get("each_account", "aws") if callspec is not None else "aws"
        if item.path.name == "test_store_artifacts.py" and cloud != "aws":
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def snowflake(mlflow_server: MlflowServer, tmp_path: Path) -> Iterator[Snowflake]:
    """A new account for each test: it starts in a moment, and contains nothing of another test."""
    stand_in = Snowflake(
        mlflow_server.url, tmp_path / "snowflake", mlflow_server.folder / "artifacts"
    )
    stand_in.start()
    yield stand_in
    stand_in.close()


@pytest.fixture
def session(snowflake: Snowflake) -> "Iterator[Session]":
    """A real Snowpark session of the account's admin, in the schema DEMO.DEMO."""
    from snowflake.snowpark import Session

    made = Session.builder.configs(snowflake.connection()).create()
    yield made
    made.close()


class Bridge(NamedTuple):
    """An account in which the generated SQL was applied, and whose clouds trust it.

    Attributes:
        stand_in: The account.
        config: Its snowflake.yml.
        setup: The same, parsed.
        session: An admin's session.
        mlflow: MLflow's own client, which reads back the data.
    """

    stand_in: Snowflake
    config: Path
    setup: BridgeConfig
    session: "Session"
    mlflow: "MlflowClient"


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a snowflake.yml for the gateway of a provider."""
    return lambda provider: _config(tmp_path, provider)


def _config(folder: Path, provider: str) -> Path:
    trust, location = {
        "aws": ({"role_arn": _ROLE}, {"location": "s3://mlflow-sandbox/", "role_arn": _ROLE}),
        "azure": (
            {"tenant_id": _GUID, "application_id": _GUID},
            {
                "location": "azure://mlflowsandbox.blob.core.windows.net/mlflow/",
                "tenant_id": _GUID,
            },
        ),
        "google": ({"audience": "audience"}, {"location": "gcs://mlflow-sandbox/"}),
    }[provider]
    keys = ("experiment_get_by_name", "run_create", "run_update", "run_log_metric")
    section = {
        "experiment_name": f"demo-mlops-{provider}",
        "stage": "@MLFLOW_STAGE",
        "functions": {key: f"demo.demo.mlflow_{key}" for key in (*keys, "run_log_parameter")},
        "gateway": {"provider": provider, "url": BASES[provider], **trust},
        "storage": location,
    }
    config = folder / "snowflake.yml"
    config.write_text(yaml.safe_dump({"snowflake": {"mlflow": section}}))
    return config


_GUID = "01234567-89ab-cdef-0123-456789abcdef"
_ROLE = "arn:aws:iam::123456789012:role/mlflow"


@contextmanager
def bridged(server: MlflowServer, folder: Path, provider: str) -> Iterator[tuple[Snowflake, Path]]:
    """Start an account, apply the SQL for a cloud in it, and do the cloud administrator's part."""
    from snowflake.snowpark import Session

    stand_in = Snowflake(server.url, folder / "account", server.folder / "artifacts")
    stand_in.start()
    config = _config(folder, provider)
    setup = load(config)
    with Session.builder.configs(stand_in.connection()).create() as session:
        apply(session, statements(setup))
        stand_in.trust(setup.require_gateway()[0].integration.object)
        assert setup.storage is not None
        stand_in.trust(setup.storage.integration.object)
        session.use_role("ACCOUNTADMIN")
        # A caller provides the warehouse; the generated SQL concerns only the bridge.
        session.sql("GRANT USAGE ON WAREHOUSE COMPUTE_WH TO ROLE MLFLOW_CALLER").collect()
    yield stand_in, config
    stand_in.close()


@contextmanager
def _opened(server: MlflowServer, stand_in: Snowflake, config: Path) -> Iterator[Bridge]:
    """Open the one active session: the store uses it, and refuses to choose between two."""
    from mlflow import MlflowClient
    from snowflake.snowpark import Session

    with Session.builder.configs(stand_in.connection()).create() as session:
        yield Bridge(stand_in, config, load(config), session, MlflowClient(server.url))


@pytest.fixture(scope="session", params=list(BASES))
def each_account(
    request: pytest.FixtureRequest,
    mlflow_server: MlflowServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Snowflake, Path]]:
    """An account with the bridge through each cloud in turn; each test leaves it as it was."""
    with bridged(mlflow_server, tmp_path_factory.mktemp("bridge"), request.param) as made:
        yield made


@pytest.fixture(scope="session")
def one_account(
    mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Snowflake, Path]]:
    """An account with the bridge through AWS; each test leaves it as it was."""
    with bridged(mlflow_server, tmp_path_factory.mktemp("bridge"), "aws") as made:
        yield made


@pytest.fixture(scope="module")
def each_bridge(
    mlflow_server: MlflowServer, each_account: tuple[Snowflake, Path]
) -> Iterator[Bridge]:
    """The bridge through each cloud in turn."""
    with _opened(mlflow_server, *each_account) as made:
        yield made


@pytest.fixture(scope="module")
def bridge(mlflow_server: MlflowServer, one_account: tuple[Snowflake, Path]) -> Iterator[Bridge]:
    """The bridge through AWS, for tests that do not depend on the cloud."""
    with _opened(mlflow_server, *one_account) as made:
        yield made


_PLAIN = {"COLUMNS": "200", "NO_COLOR": "1", "DO_NOT_TRACK": "1"}


class Project(NamedTuple):
    """A Kedro project, and an account in which the bridge of its snowflake.yml was created.

    Attributes:
        folder: The project's folder.
        account: The account.
        mlflow: MLflow's own client, which reads back the data.
    """

    folder: Path
    account: Snowflake
    mlflow: "MlflowClient"

    def kedro(self, *arguments: str, succeeds: bool = True) -> str:
        """Run a command of the project as in a shell, and return its output."""
        return _shell(self.folder, self.account, "-m", "kedro", *arguments, succeeds=succeeds)

    def runs(self, experiment: str) -> "list[Run]":
        """Return every run of an experiment."""
        found = self.mlflow.get_experiment_by_name(experiment)
        return [] if found is None else list(self.mlflow.search_runs([found.experiment_id]))


def _shell(
    folder: Path,
    account: Snowflake | None,
    *arguments: str,
    answers: str = "",
    succeeds: bool = True,
) -> str:
    """Run this Python in a folder, with the account's variables, and return its output."""
    variables = account.environment() if account is not None else {}
    environment = {**os.environ, **variables, **_PLAIN}
    if sys.platform == "linux":
        code, shown = _warm().run(folder, environment, arguments, answers)
    else:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            input=answers,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        code, shown = done.returncode, done.stdout
    assert (code == 0) is succeeds, shown
    return shown


class WarmKedro:
    """Runs Python in forks of one process that has imported Kedro; see `warm_kedro.py`."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="kedro-commands-")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm_kedro.py"))],
            cwd=self._folder.name,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.close)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()

    def run(
        self, folder: Path, environment: dict[str, str], arguments: tuple[str, ...], answers: str
    ) -> tuple[int, str]:
        """Run a command; return its exit code and its output."""
        given, shown = (Path(self._folder.name) / name for name in ("input", "output"))
        given.write_text(answers)
        job = {
            "folder": str(folder),
            "environment": environment,
            "arguments": arguments,
            "input": str(given),
            "output": str(shown),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        code = int(json.loads(self._process.stdout.readline()))
        return code, shown.read_text()


@functools.cache
def _warm() -> WarmKedro:
    return WarmKedro()


@contextmanager
def _ready(folder: Path, server: MlflowServer, where: Path) -> Iterator[Project]:
    """Start an account with a project's way to MLflow and with clouds that trust it."""
    from mlflow import MlflowClient

    account = Snowflake(server.url, where, server.folder / "artifacts")
    account.administer()
    account.start()
    command = "from mlflow_connections_snowflake._cli import console; console()"
    _shell(folder, account, "-c", command, "apply")
    yield Project(folder, account, MlflowClient(server.url))
    account.close()


@pytest.fixture(scope="session")
def shell() -> Callable[..., str]:
    """Runs this Python in a folder, with an account's variables."""
    return _shell


@pytest.fixture(scope="session")
def ready() -> Callable[..., Any]:
    """Starts an account in which a project can run and log to MLflow."""
    return _ready
