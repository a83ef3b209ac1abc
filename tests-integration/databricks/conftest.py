"""Databricks workspaces, and plain servers to switch between."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import mlflow
import pytest

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._databricks import Databricks


class Account(NamedTuple):
    """A user's credentials and options for the connection.

    Attributes:
        credentials: As in credentials.yml.
        options: As under `server.connection`.
    """

    credentials: dict[str, Any]
    options: dict[str, Any]


@pytest.fixture
def make_workspace(
    mlflow_server: MlflowServer, tmp_path: Path
) -> Iterator[Callable[[], Databricks]]:
    """Start workspaces in front of the session's MLflow server, each with its own accounts."""
    started: list[Databricks] = []

    def make() -> Databricks:
        stand_in = Databricks(mlflow_server.url, tmp_path / f"workspace-{len(started)}")
        started.append(stand_in)
        stand_in.start()
        return stand_in

    yield make
    for stand_in in started:
        stand_in.close()


@pytest.fixture
def workspace(make_workspace: Callable[[], Databricks]) -> Databricks:
    """One workspace."""
    return make_workspace()


@pytest.fixture
def token(workspace: Databricks) -> Account:
    """Its address and personal token."""
    return Account({"token": workspace.access.token}, {"host": workspace.url})


@pytest.fixture
def oauth(workspace: Databricks) -> Account:
    """Its address and OAuth client."""
    access = workspace.access
    credentials = {"client_id": access.client_id, "client_secret": access.client_secret}
    return Account(credentials, {"host": workspace.url})


@pytest.fixture
def profile(workspace: Databricks, monkeypatch: pytest.MonkeyPatch) -> Account:
    """A profile of ~/.databrickscfg that holds its address and token."""
    file = Path("~/.databrickscfg").expanduser()
    file.write_text(f"[prod]\nhost = {workspace.url}\ntoken = {workspace.access.token}\n")
    # MLflow 2 reads the home folder on import, which is before this test's variables are set.
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(file))
    return Account({}, {"profile": "prod"})


@pytest.fixture
def name() -> str:
    """An experiment name that is unique to this test."""
    return f"/Shared/{uuid4().hex}"


class Servers(NamedTuple):
    """The tracking URIs of three servers that share nothing."""

    a: str
    b: str
    http: str


@pytest.fixture(scope="session")
def servers(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Servers:
    """Three servers for the whole session. MLflow takes seconds to create a database, so one is copied."""
    folder = tmp_path_factory.mktemp("boundary")
    a, b = folder / "a.db", folder / "b.db"
    mlflow.MlflowClient(f"sqlite:///{a}").search_experiments(max_results=1)
    shutil.copyfile(a, b)
    return Servers(f"sqlite:///{a}", f"sqlite:///{b}", mlflow_server.url)


@pytest.fixture(scope="session")
def experiment_of() -> Callable[[str, str], str]:
    """Return the name of the experiment with a run on a server, read with a separate client."""

    def ask(uri: str, run_id: str) -> str:
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        return str(client.get_experiment(client.get_run(run_id).info.experiment_id).name)

    return ask
