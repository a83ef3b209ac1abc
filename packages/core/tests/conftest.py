"""Real distributions for the tests: metadata and modules on `sys.path`, as an installer lays them."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from mlflow_connections.discovery import GROUP, rescan


class Install(Protocol):
    """Lays a distribution with a connection onto `sys.path`."""

    def __call__(
        self, keyword: str, code: str, *, target: str = "connection", name: str = ""
    ) -> str:
        """Return the name of the module that the code is in."""
        ...


@pytest.fixture(autouse=True)
def no_files_of_the_user(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connections file and no default of the person who runs the tests is in force."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
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
