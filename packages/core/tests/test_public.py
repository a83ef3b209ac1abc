"""The public names of the package."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import mlflow_connections


def test_every_public_name_is_listed_once_at_home_and_once_in_the_map() -> None:
    """Each name of the map can be imported, its module lists it, and a starred module lists no other."""
    names = [name for listed in mlflow_connections._MODULES.values() for name in listed]
    assert sorted(names) == sorted(set(names)) == mlflow_connections.__all__
    assert dir(mlflow_connections) == mlflow_connections.__all__
    for module, listed in mlflow_connections._MODULES.items():
        home = import_module(f"mlflow_connections.{module}")
        assert all(getattr(mlflow_connections, name) is getattr(home, name) for name in listed)
        if module.startswith("_"):
            assert sorted(home.__all__) == sorted(listed)
        else:
            assert set(listed) < set(home.__all__)


def test_type_checkers_see_the_names_that_the_map_has() -> None:
    """The imports for type checkers star each private module and name the others one by one."""
    tree = ast.parse(Path(mlflow_connections.__file__).read_text(encoding="utf-8"))
    seen = [
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    ]
    assert sorted(seen) == sorted(
        (module, name)
        for module, listed in mlflow_connections._MODULES.items()
        for name in (["*"] if module.startswith("_") else listed)
    )


@pytest.mark.parametrize(
    "module", ["deadline", "discovery", "options", "reports", "secrets", "testing"]
)
def test_a_public_module_lists_its_names(module: str) -> None:
    """`__all__` of a public module contains its own definitions, and nothing that is missing."""
    home = import_module(f"mlflow_connections.{module}")
    assert home.__all__
    for name in home.__all__:
        assert getattr(getattr(home, name), "__module__", home.__name__) in {
            home.__name__,
            "builtins",
            "re",
        }


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A missing name fails as in any module."""
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
