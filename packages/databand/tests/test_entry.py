"""What MLflow loads when it is imported costs nothing and knows nothing of MLflow."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

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
def test_each_scheme_is_registered_wherever_mlflow_asks_for_it(group: str) -> None:
    """Tracking, the registry, scorers, labelling and workspaces know the composite schemes."""
    ours = {p.name for p in entry_points(group=group) if "mlflow_connections_databand" in p.value}
    assert ours == SCHEMES


def test_loading_the_entry_points_imports_neither_mlflow_nor_dbnd() -> None:
    """A plugin that imports MLflow while MLflow imports it would be a circle, and dbnd is slow."""
    script = (
        "import sys\n"
        "import mlflow_connections_databand._entry\n"
        "import mlflow_connections_databand._transparent\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'mlflow', 'dbnd', 'requests', 'urllib3'}))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_the_sink_needs_neither_mlflow_nor_dbnd() -> None:
    """The shipper's process starts quickly: sending needs requests alone."""
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
    """Whether dbnd is installed or not."""
    script = "import sys, mlflow; print('dbnd' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
