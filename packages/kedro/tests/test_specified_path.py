"""The specification's import path works with this package installed, without a start-up file."""

import subprocess
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest

from mlflow_connections import Connection
from mlflow_connections.specified_path import NAME

SCRIPT = "from kedro_mlflow.config.connection import KedroMlflowConnection as K"


def python(tmp_path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run this Python without start-up files, with the same packages."""
    code = f"import sys; sys.path[:0] = {sys.path!r}; "
    return subprocess.run(
        [sys.executable, "-S", "-c", code + "; ".join(arguments)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_has_no_start_up_file() -> None:
    """Nothing in this distribution runs in interpreters that do not use it."""
    names = [file.name for file in distribution("mlflow-connections-kedro").files or ()]
    assert not {"mlflow_connections_kedro.pth", "mlflow_connections_kedro.start"} & {*names}
    assert not [name for name in names if name.endswith(".start")]


def test_every_kedro_command_creates_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kedro calls the entry points of the group `kedro.init` before any command."""
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    (entry,) = entry_points(group="kedro.init", name="mlflow_connections")
    entry.load()()
    assert sys.modules[NAME].KedroMlflowConnection is Connection


def test_a_kedro_command_imports_a_plugin(tmp_path: Path) -> None:
    """A module that a `kedro` command imports can import its base class from the specified path."""
    done = python(
        tmp_path,
        "from kedro.framework.cli.cli import _init_plugins",
        "_init_plugins()",
        SCRIPT,
        "print(K.__module__)",
    )
    assert done.stdout.split()[-1:] == ["mlflow_connections._connection"], done.stderr


def test_a_plugin_authors_tests_import_it(tmp_path: Path) -> None:
    """A plugin author's test run finds the base class."""
    (tmp_path / "test_it.py").write_text(f"def test_it():\n    {SCRIPT}\n    assert K\n")
    done = python(tmp_path, "import pytest", "sys.exit(pytest.main(['-q']))")
    assert done.returncode == 0, done.stdout + done.stderr
