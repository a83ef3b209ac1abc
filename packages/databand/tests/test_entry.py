"""The entry points, and the cost of importing them and the sink."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

PLUGIN = "mlflow_connections_events.plugin:"
SCHEMES = {"dbnd", "dbnd+s", "databand", "databand+s"}


@pytest.mark.parametrize(
    "group",
    [
        "mlflow.tracking_store",
        "mlflow.model_registry_store",
        "mlflow.scorer_store",
        "mlflow.labeling_store",
        "mlflow.workspace_provider",
    ],
)
def test_each_scheme_is_registered_for_every_store(group: str) -> None:
    """Tracking, the registry, scorers, labeling and workspaces know the composite schemes."""
    ours = {p.name for p in entry_points(group=group) if p.value.startswith(PLUGIN)}
    assert ours >= SCHEMES
    assert {p.name for p in entry_points(group="mlflow_connections.composite")} >= SCHEMES


def test_the_sink_needs_neither_mlflow_nor_dbnd() -> None:
    """The shipper's process starts quickly: sending needs only requests."""
    script = (
        "import sys\n"
        "import mlflow_connections_databand.sink\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'mlflow', 'dbnd'}))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_importing_mlflow_never_imports_dbnd() -> None:
    """Importing MLflow does not import dbnd, whether or not it is installed."""
    script = "import sys, mlflow; print('dbnd' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
