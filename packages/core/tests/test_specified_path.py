"""The specification's import path: a module object that imports nothing and makes nothing look installed."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mlflow_connections import Connection
from mlflow_connections.specified_path import NAME, install


@pytest.fixture
def nothing_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the module for one test."""
    monkeypatch.delitem(sys.modules, NAME, raising=False)


def test_it_provides_the_base_class(nothing_there: None) -> None:
    """The specification's import returns core's base class under both of its names."""
    install()
    module = importlib.import_module(NAME)
    assert module.KedroMlflowConnection is Connection
    assert module.Connection is Connection
    assert module.__all__ == ["KedroMlflowConnection"]


def test_it_keeps_a_loaded_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is already loaded stays, since it may be kedro-mlflow's own."""
    own = ModuleType(NAME)
    monkeypatch.setitem(sys.modules, NAME, own)
    install()
    assert sys.modules[NAME] is own


def test_kedro_mlflow_does_not_look_installed(nothing_there: None) -> None:
    """The module has a spec, and checks for an installed kedro-mlflow still work."""
    there = importlib.util.find_spec("kedro_mlflow") is not None
    install()
    assert (importlib.util.find_spec("kedro_mlflow") is not None) == there
    assert importlib.util.find_spec(NAME) is sys.modules[NAME].__spec__
    assert "kedro_mlflow" not in sys.modules or there


def test_it_refuses_other_names(nothing_there: None) -> None:
    """Any other attribute is an AttributeError."""
    install()
    with pytest.raises(AttributeError, match="no attribute 'anything'"):
        _ = sys.modules[NAME].anything


def test_a_scan_of_all_modules_imports_nothing(tmp_path: Path) -> None:
    """Reading every loaded module's `__file__` imports nothing, so that the loop does not fail."""
    code = (
        "import sys\nfrom mlflow_connections.specified_path import install\ninstall()\n"
        "before = set(sys.modules)\n"
        "for module in sys.modules.values():\n"
        "    for name in ('__file__', '__path__', '__version__', '__wrapped__', 'anything'):\n"
        "        getattr(module, name, None)\n"
        f"assert {NAME!r} in before\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_kedro_mlflows_own_module_takes_precedence(
    nothing_there: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a version of kedro-mlflow has the module, its class is used, and it replaces this one."""
    folder = tmp_path / "own" / "kedro_mlflow" / "config"
    folder.mkdir(parents=True)
    for path in (folder.parent / "__init__.py", folder / "__init__.py"):
        path.touch()
    (folder / "connection.py").write_text("class KedroMlflowConnection:\n    own = True\n")
    for name in [m for m in sys.modules if m.partition(".")[0] == "kedro_mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    install()
    assert sys.modules[NAME].KedroMlflowConnection.own
    assert sys.modules[NAME].__file__ == str(folder / "connection.py")
    for name in [m for m in sys.modules if m.partition(".")[0] == "kedro_mlflow"]:
        del sys.modules[name]
