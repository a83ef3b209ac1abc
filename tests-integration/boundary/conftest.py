"""Servers that keep apart what is logged to each: two SQLite files and a real MLflow server."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mlflow
import pytest

from mlflow_connections_sandbox import MlflowServer


class Servers(NamedTuple):
    """The tracking URIs of three servers that share nothing."""

    a: str
    b: str
    http: str


@pytest.fixture(scope="session")
def servers(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Servers:
    """Three servers for the whole session: MLflow takes seconds to make a database."""
    folder = tmp_path_factory.mktemp("boundary")
    first, second = (f"sqlite:///{folder / name}.db" for name in "ab")
    for uri in (first, second):
        mlflow.MlflowClient(uri).search_experiments(max_results=1)
    return Servers(first, second, mlflow_server.url)


@pytest.fixture(autouse=True)
def artifacts_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SQLite store keeps artifacts below the working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def experiment_of() -> Callable[[str, str], str]:
    """Return the name of the experiment that a server has a run in, asked by a client of its own."""

    def ask(uri: str, run_id: str) -> str:
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        return str(client.get_experiment(client.get_run(run_id).info.experiment_id).name)

    return ask
