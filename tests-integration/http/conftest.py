"""A protected MLflow server, and another one that must never receive a credential."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_connections_sandbox import MlflowServer, OpenMlflow
from mlflow_connections_sandbox._http import ProtectedMlflow


@pytest.fixture
def protected(mlflow_server: MlflowServer, tmp_path: Path) -> Iterator[ProtectedMlflow]:
    """The stand-in in front of the session's MLflow server."""
    stand_in = ProtectedMlflow(mlflow_server.url, tmp_path / "protected")
    stand_in.start()
    yield stand_in
    stand_in.close()


@pytest.fixture
def foreign(mlflow_server: MlflowServer, tmp_path: Path) -> Iterator[OpenMlflow]:
    """A server on another origin, in front of the same MLflow server."""
    stand_in = OpenMlflow(mlflow_server.url, tmp_path / "foreign")
    stand_in.start()
    yield stand_in
    stand_in.close()
