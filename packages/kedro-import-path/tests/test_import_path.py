"""A bare script imports the base class from the specified path, at no cost until then."""

import os
import pkgutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

import mlflow_connections_kedro_import_path as import_path
from mlflow_connections import Connection
from mlflow_connections.specified_path import NAME
from mlflow_connections.specified_path import install as install_of_core


def run(folder: Path, code: str) -> str:
    """Run code in a separate interpreter and return its output."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def installed_text(name: str) -> str:
    """Read a file that the distribution installed next to its package."""
    files = distribution("mlflow-connections-kedro-import-path").files or ()
    (file,) = [each for each in files if each.name == name]
    return Path(str(file.locate())).read_text()


@pytest.fixture
def nothing_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the module for one test."""
    monkeypatch.delitem(sys.modules, NAME, raising=False)


def test_a_bare_script(tmp_path: Path) -> None:
    """A script that imports nothing else of this family finds the base class."""
    code = f"from {NAME} import KedroMlflowConnection as K; print(K.__module__)"
    assert run(tmp_path, code) == "mlflow_connections._connection"


@pytest.mark.parametrize("kind", ["pth", "start"])
def test_start_up_files(nothing_there: None, kind: str) -> None:
    """Each start-up file is one line that creates the module."""
    line = installed_text(f"mlflow_connections_kedro_import_path.{kind}").strip()
    assert "\n" not in line
    if kind == "pth":
        assert line.startswith("import ")  # Python treats any other line as a folder
        exec(line, {})
    else:  # as PEP 829 specifies for Python 3.15
        pkgutil.resolve_name(line)()
    assert sys.modules[NAME].KedroMlflowConnection is Connection


def test_starting_python_imports_only_this(tmp_path: Path) -> None:
    """Python's start imports only this package's module and nothing of core."""
    code = "import sys; print(*sorted(m for m in sys.modules if m.startswith('mlflow')))"
    assert run(tmp_path, code) == "mlflow_connections_kedro_import_path"


def test_a_scan_of_all_modules_imports_nothing(tmp_path: Path) -> None:
    """Reloaders and cache clearers read every loaded module's `__file__`, which imports nothing."""
    code = (
        "import sys\nbefore = set(sys.modules)\n"
        "for module in sys.modules.values():\n"
        "    for name in ('__file__', '__path__', '__all__', '__wrapped__', 'anything'):\n"
        "        getattr(module, name, None)\n"
        f"assert {NAME!r} in before\nprint(set(sys.modules) - before)"
    )
    assert run(tmp_path, code) == "set()"


def test_other_names_are_refused(nothing_there: None) -> None:
    """Any other attribute is an AttributeError."""
    import_path.install()
    with pytest.raises(AttributeError, match="no attribute 'anything'"):
        _ = sys.modules[NAME].anything


def test_the_first_module_created_stays(nothing_there: None) -> None:
    """Core and this package create the same module, so either may come first."""
    import_path.install()
    first = sys.modules[NAME]
    install_of_core()
    assert sys.modules[NAME] is first
    assert first.__spec__ is not None


def test_kedro_mlflow_does_not_look_installed(tmp_path: Path) -> None:
    """Checks for an installed kedro-mlflow work as before."""
    code = "from importlib.util import find_spec; print(find_spec('kedro_mlflow') is not None)"
    without = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(os.path.isdir, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run(tmp_path, code) == without.stdout.strip()
