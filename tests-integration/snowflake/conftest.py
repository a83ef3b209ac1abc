"""The stand-in of Snowflake before the real MLflow server, with real clients connected to it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._snowflake import Snowflake

if TYPE_CHECKING:
    from snowflake.snowpark import Session


@pytest.fixture
def snowflake(mlflow_server: MlflowServer, tmp_path: Path) -> Iterator[Snowflake]:
    """A new account for each test: it starts in a moment, and nothing of another test is in it."""
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
