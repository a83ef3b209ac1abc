"""Real distributions for the tests: metadata and modules on `sys.path`, as an installer creates them."""

import itertools
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from mlflow_connections.discovery import GROUP, rescan

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests-shared"))
from warm_python import WarmPython, serving

# The imports of `mlflow-connections` and of a run of pytest. Core is among them, because importing
# it reads nothing; tests of streams and signals start a new interpreter.
PRELOADED = (
    *("mlflow_connections._cli", "mlflow_connections._schema", "mlflow_connections._init"),
    *("mlflow_connections.named", "mlflow_connections.reports", "mlflow_connections.testing"),
    *("csv", "email.message", "importlib.resources", "shutil", "socket", "tempfile", "tomllib"),
    *("pytest", "_pytest.doctest", "_pytest.legacypath", "_pytest.subtests", "_pytest.terminal"),
)


@pytest.fixture(scope="session")
def warm_python() -> Iterator[WarmPython]:
    """A server that runs Python commands without interpreter start-up, for tests that do not concern it."""
    with serving(*PRELOADED) as server:
        yield server


class Install(Protocol):
    """Installs a distribution with a connection on `sys.path`."""

    def __call__(
        self, keyword: str, code: str, *, target: str = "connection", name: str = ""
    ) -> str:
        """Return the name of the module that the code is in."""
        ...


@pytest.fixture(scope="session")
def new_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Paths of folders that do not exist."""
    folder = tmp_path_factory.mktemp("config")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def no_files_of_the_user(new_folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable any connections file and default of the person who runs the tests."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(next(new_folders)))
    for name in ("MLFLOW_CONNECTIONS_FILE", "MLFLOW_CONNECTIONS_DEFAULT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install plugins for one test; the function returns the name of each one's module."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    modules: list[str] = []

    def install(keyword: str, code: str, *, target: str = "connection", name: str = "") -> str:
        name = name or f"plugin-of-{keyword}"
        module = f"{name.replace('-', '_')}_module"
        modules.append(module)
        (site / f"{module}.py").write_text(textwrap.dedent(code))
        info = site / f"{name.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{keyword} = {module}:{target}\n")
        rescan()
        return module

    rescan()
    yield install
    for module in modules:
        sys.modules.pop(module, None)
    rescan()
