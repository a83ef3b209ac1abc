"""The stand-in of Snowflake in front of the real MLflow server, with real clients connected to it."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._snowflake import BASES, Snowflake
from mlflow_connections_snowflake import BridgeConfig, apply, load, statements

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests-shared"))
from warm_python import OF_MLFLOW, serving

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
        shell: Runs Python in a folder.
    """

    folder: Path
    account: Snowflake
    mlflow: "MlflowClient"
    shell: "Shell"

    def kedro(self, *arguments: str, succeeds: bool = True) -> str:
        """Run a command of the project as in a shell, and return its output."""
        return self.shell(self.folder, self.account, "-m", "kedro", *arguments, succeeds=succeeds)

    def runs(self, experiment: str) -> "list[Run]":
        """Return every run of an experiment."""
        found = self.mlflow.get_experiment_by_name(experiment)
        return [] if found is None else list(self.mlflow.search_runs([found.experiment_id]))


class Shell(NamedTuple):
    """Runs Python in a folder.

    Attributes:
        python: The path of the interpreter.
    """

    python: str

    def __call__(
        self,
        folder: Path,
        account: Snowflake | None,
        *arguments: str,
        answers: str = "",
        succeeds: bool = True,
    ) -> str:
        """Run Python in a folder, with the account's variables, and return its output."""
        variables = account.environment() if account is not None else {}
        done = subprocess.run(
            [self.python, *arguments],
            cwd=folder,
            env={**os.environ, **variables, **_PLAIN},
            input=answers,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) is succeeds, done.stdout
        return done.stdout


_IMPORTED = (
    *("kedro.framework.cli.cli", "kedro.framework.project", "kedro.framework.session"),
    *("rich.live", "snowflake.snowpark"),
)


@contextmanager
def _ready(shell: Shell, folder: Path, server: MlflowServer, where: Path) -> Iterator[Project]:
    """Start an account with a project's way to MLflow and with clouds that trust it."""
    from mlflow import MlflowClient

    account = Snowflake(server.url, where, server.folder / "artifacts")
    account.administer()
    account.start()
    command = "from mlflow_connections_snowflake._cli import console; console()"
    shell(folder, account, "-c", command, "apply")
    yield Project(folder, account, MlflowClient(server.url), shell)
    account.close()


@pytest.fixture(scope="session")
def shell() -> Iterator[Shell]:
    """Runs a Python that has imported Kedro in a folder, with an account's variables."""
    with serving(*OF_MLFLOW, *_IMPORTED) as server:
        yield Shell(str(server.bin / "python"))


@pytest.fixture(scope="session")
def ready(shell: Shell) -> Callable[..., Any]:
    """Starts an account in which a project can run and log to MLflow."""
    return functools.partial(_ready, shell)
