"""dbnd itself, pointed at the stand-in; every test in this folder needs the extra `dbnd`."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlflow_connections_sandbox._databand import Databand


@pytest.fixture
def dbnd_environment(tracker: Databand, tmp_path: Path) -> Mapping[str, str]:
    """The environment of a process that uses dbnd."""
    home = tmp_path / "dbnd"
    home.mkdir()
    return {
        **os.environ,
        **tracker.environment(),
        "DBND_HOME": str(home),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "PYTHONPATH": str(tmp_path),
    }
