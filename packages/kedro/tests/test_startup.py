"""The specification's import path is there before anybody asks for it."""

import importlib.util
import pkgutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType

import pytest

from mlflow_connections import Connection
from mlflow_connections_kedro import _startup

NAME = "kedro_mlflow.config.connection"
SCRIPT = "from kedro_mlflow.config.connection import KedroMlflowConnection as K; print(K.__name__)"


def _installed(name: str) -> str:
    (file,) = [f for f in distribution("mlflow-connections-kedro").files or () if f.name == name]
    return Path(str(file.locate())).read_text()


@pytest.fixture
def nothing_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the placeholder away for a test."""
    monkeypatch.delitem(sys.modules, NAME, raising=False)


def test_plain_script(tmp_path: Path) -> None:
    """A script that imports nothing of ours finds the base class."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "Connection"


@pytest.mark.parametrize("way", ["pth", "start"])
def test_startup_files(nothing_there: None, way: str) -> None:
    """What Python runs as it starts, by either file, puts the placeholder there."""
    line = _installed(f"mlflow_connections_kedro.{way}").strip()
    assert "\n" not in line
    if way == "pth":
        assert line.startswith("import ")  # what is no import line would be taken for a path
        exec(line, {})
    else:  # as PEP 829 says that Python 3.15 does
        pkgutil.resolve_name(line)()
    assert sys.modules[NAME].KedroMlflowConnection is Connection


def test_startup_imports_nothing(tmp_path: Path) -> None:
    """Starting Python imports neither core nor this package."""
    code = "import sys; print([m for m in sys.modules if m.startswith('mlflow')])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_placeholder_leaves_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is there already stays, since it may be kedro-mlflow's own."""
    own = ModuleType(NAME)
    monkeypatch.setitem(sys.modules, NAME, own)
    _startup.install()
    assert sys.modules[NAME] is own


def test_kedro_mlflow_is_not_pretended(nothing_there: None) -> None:
    """The placeholder is found, and kedro-mlflow is no more there than it was."""
    there = importlib.util.find_spec("kedro_mlflow") is not None
    _startup.install()
    assert (importlib.util.find_spec("kedro_mlflow") is not None) == there
    assert sys.modules[NAME].__spec__ is not None
    assert "kedro_mlflow" not in sys.modules or there


def test_placeholder_refuses_other_names(nothing_there: None) -> None:
    """A tool that asks every module for this and that gets an AttributeError and imports nothing."""
    _startup.install()
    with pytest.raises(AttributeError, match="no attribute 'anything'"):
        _ = sys.modules[NAME].anything


def test_kedro_mlflows_own_module_wins(
    nothing_there: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should kedro-mlflow bring the module one day, its base class is given."""
    folder = tmp_path / "own" / "kedro_mlflow" / "config"
    folder.mkdir(parents=True)
    for path in (folder.parent / "__init__.py", folder / "__init__.py"):
        path.touch()
    (folder / "connection.py").write_text("class KedroMlflowConnection:\n    own = True\n")
    for name in [m for m in sys.modules if m.partition(".")[0] == "kedro_mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    _startup.install()
    assert sys.modules[NAME].KedroMlflowConnection.own
    assert sys.modules[NAME].__file__ == str(folder / "connection.py")
    for name in [m for m in sys.modules if m.partition(".")[0] == "kedro_mlflow"]:
        del sys.modules[name]


def test_plugin_authors_tests(tmp_path: Path) -> None:
    """A plugin author's test run finds the base class, even where start-up files are off."""
    (tmp_path / "test_it.py").write_text(f"def test_it():\n    {SCRIPT}\n    assert K\n")
    code = f"import sys; sys.path[:0] = {sys.path!r}; import pytest; sys.exit(pytest.main(['-q']))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
