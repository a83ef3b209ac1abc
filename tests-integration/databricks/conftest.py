"""Databricks workspaces, and what MLflow's client does in one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._databricks import Databricks


class Account(NamedTuple):
    """What a user gives the connection.

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
    """Start workspaces before the session's MLflow server; each has accounts of its own."""
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
    # MLflow 2 looks the home folder up at its import, which is before this test's.
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(file))
    return Account({}, {"profile": "prod"})


@pytest.fixture
def name() -> str:
    """An experiment's name that no other test has."""
    return f"/Shared/{uuid4().hex}"
