"""Projects and plugins on a disk, without a separate process."""

import json
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks.manager import _create_hook_manager

from mlflow_connections import discovery
from mlflow_connections.discovery import rescan
from mlflow_connections_kedro._hooks import ConnectionHooks

FAMILY = "mlflow-connections-"
_PLUGINS = """
from mlflow_connections import Connection, Option


class Lake(Connection):
    def tracking_uri(self, credentials, options):
        return "sqlite:///" + self.getkey(options, "database", "LAKE_DATABASE")

    def environment(self, credentials, options):
        return {"LAKE_TOKEN": str(credentials["token"])} if "token" in credentials else {}


class Declared(Connection):
    declared = (
        Option("region", "Where it is.", required=True, choices=("eu", "us")),
        Option("workspace", "Its name.", env="DECLARED_WORKSPACE", required=True),
        Option("retries", "How often.", type=int, default=3),
        Option("token", "Opens it.", env="DECLARED_TOKEN", secret=True),
    )

    def tracking_uri(self, credentials, options):
        return "https://" + self.values(credentials, options)["workspace"]


class Empty(Connection):
    def tracking_uri(self, credentials, options):
        return ""
"""


@pytest.fixture(autouse=True)
def no_siblings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only the connections of a test are installed, whatever else the environment contains."""
    scan = discovery._scan_entry_points
    monkeypatch.setattr(
        discovery,
        "_scan_entry_points",
        lambda: [found for found in scan() if not found.distribution.startswith(FAMILY)],
    )
    rescan()
    yield
    rescan()


class Project:
    """A project's configuration, and the context that a session creates from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hooks = ConnectionHooks()
        self.others: list[Any] = []
        for name in ("base", "local"):
            (folder / "conf" / name).mkdir(parents=True)

    def write(self, name: str, content: Any) -> None:
        """Write a file under conf; JSON is YAML too."""
        path = self.folder / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    def server(self, env: str = "base", **settings: Any) -> None:
        """Write `server` of an environment's mlflow.yml."""
        self.write(f"{env}/mlflow.yml", {"server": settings})

    def loader(self, env: str | None = None, **arguments: Any) -> OmegaConfigLoader:
        """Create Kedro's config loader as a session does."""
        return OmegaConfigLoader(
            str(self.folder / "conf"),
            env=env,
            **{"base_env": "base", "default_run_env": "local", **arguments},
        )

    def context(self, env: str | None = None, **arguments: Any) -> KedroContext:
        """Create a context and call the hooks, as a session does."""
        manager = _create_hook_manager()
        for plugin in (*self.others, self.hooks):
            manager.register(plugin)
        context = KedroContext(
            project_path=self.folder,
            config_loader=self.loader(env, **arguments),
            env=env,
            package_name="shop",
            hook_manager=manager,
        )
        manager.hook.after_context_created(context=context)
        return context


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project with an empty configuration, whose last session is left at the end."""
    project = Project(tmp_path / "shop")
    yield project
    project.hooks.leave()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the developer's own variables from a test, and a test's exports from the next one."""
    for name in [n for n in os.environ if n.startswith(("MLFLOW_", "LAKE_", "DECLARED_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("KEDRO_ENV", raising=False)
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install three connections for one test: `lake`, `declared` and `empty`."""
    site = tmp_path / "site"
    info = site / "plugins-1.2.dist-info"
    info.mkdir(parents=True)
    (site / "plugins_module.py").write_text(textwrap.dedent(_PLUGINS))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[kedro_mlflow.connections]\n"
        "lake = plugins_module:Lake\n"
        "declared = plugins_module:Declared\n"
        "empty = plugins_module:Empty\n"
    )
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("plugins_module", None)
