"""What the package offers."""

import subprocess
import sys

import pytest

import mlflow_connections


def test_every_public_name_is_there() -> None:
    """Each name of `__all__` can be imported, and nothing else is promised."""
    assert sorted(mlflow_connections._HOMES) == sorted(mlflow_connections.__all__)
    assert all(hasattr(mlflow_connections, name) for name in mlflow_connections.__all__)
    assert dir(mlflow_connections) == sorted(mlflow_connections.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that does not exist fails as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mlflow_connections.nothing  # noqa: B018 - looking it up is what is tested


def test_importing_it_imports_nothing_else() -> None:
    """The package is imported before any of its modules, and without MLflow or Kedro."""
    code = "import sys, mlflow_connections; print(*(m for m in sys.modules if 'mlflow' in m))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(next(iter(mlflow_connections.__path__))).rpartition("/")[0]},
        check=True,
    )
    assert done.stdout.split() == ["mlflow_connections"]
