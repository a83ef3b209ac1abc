"""Real distributions for the tests: metadata and modules on `sys.path`, as an installer lays them."""

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

# What `mlflow-connections` and a run of pytest import. Core is among them, as it reads nothing when it is
# imported; tests of streams and signals start it anew.
PRELOADED = (
    *("mlflow_connections._cli", "mlflow_connections._schema", "mlflow_connections._init"),
    *("mlflow_connections.named", "mlflow_connections.reports", "mlflow_connections.testing"),
    *("csv", "email.message", "importlib.resources", "shutil", "socket", "tempfile", "tomllib"),
    *("pytest", "_pytest.doctest", "_pytest.legacypath", "_pytest.subtests", "_pytest.terminal"),
)


@pytest.fixture(scope="session")
def warm_python() -> Iterator[WarmPython]:
    """A server that runs commands of Python without their start, for tests that are not about it."""
    with serving(*PRELOADED) as server:
        yield server


class Install(Protocol):
    """Lays a distribution with a connection onto `sys.path`."""

    def __call__(
        self, keyword: str, code: str, *, target: str = "connection", name: str = ""
    ) -> str:
        """Return the name of the module that the code is in."""
        ...


@pytest.fixture(scope="session")
def new_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Paths of folders, of which none exists."""
    folder = tmp_path_factory.mktemp("config")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def no_files_of_the_user(new_folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No connections file and no default of the person who runs the tests is in force."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(next(new_folders)))
    for name in ("MLFLOW_CONNECTIONS_FILE", "MLFLOW_CONNECTIONS_DEFAULT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install plugins for one test; gives the name of the module that each one's code is in."""
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
