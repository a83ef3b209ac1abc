"""Real Kedro projects, run as users run them, with kedro-mlflow if it is installed and without it otherwise."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests-shared"))
from warm_python import OF_MLFLOW, WarmPython, serving

_NODES = '''
import json
import multiprocessing
import os
import sys

import mlflow


def track(number):
    """Log one metric the plain way, and record what this process sees."""
    mlflow.log_metric("answer", number)
    seen = {
        "tracking": mlflow.get_tracking_uri(),
        "registry": mlflow.get_registry_uri(),
        "variables": dict(os.environ),
        "run": mlflow.active_run().info.run_id,
        "child": multiprocessing.parent_process() is not None,
    }
    with open(os.environ["RECORD"], "a") as record:
        record.write(json.dumps(seen) + "\\n")
    if os.environ.get("FAILS") == str(number):
        raise RuntimeError("as it was asked to")
    if os.environ.get("INTERRUPTED") == str(number):
        raise KeyboardInterrupt
    return number
'''

_PIPELINES = """
from kedro.pipeline import node, pipeline

from shop.nodes import track


def register_pipelines():
    return {
        "__default__": pipeline([
            node(track, "params:one", "first", name="first"),
            node(track, "params:two", "second", name="second"),
        ])
    }
"""

_SPECIFIED = '''
from kedro_mlflow.config.connection import KedroMlflowConnection


class MyConnection(KedroMlflowConnection):
    def tracking_uri(self, credentials, options) -> str:
        return "my_tracking_uri"


my_connection = MyConnection()


class Lake(KedroMlflowConnection):
    """Reads its database from the options and hands its token on."""

    def tracking_uri(self, credentials, options) -> str:
        return "sqlite:///" + self.getkey(options, "database", "LAKE_DATABASE")

    def registry_uri(self, credentials, options) -> str:
        return "sqlite:///" + self.getkey(options, "models", "LAKE_MODELS", options.get("database"))

    def environment(self, credentials, options):
        return {"LAKE_TOKEN": str(credentials["token"])} if "token" in credentials else {}


class Vault(KedroMlflowConnection):
    """Has its database in the credentials."""

    def tracking_uri(self, credentials, options) -> str:
        return "sqlite:///" + credentials["database"]
'''

_DECLARED = """
from mlflow_connections import Connection, Option


class Declared(Connection):
    declared = (
        Option("region", "Where it is.", required=True),
        Option("workspace", "Its name.", env="DECLARED_WORKSPACE", required=True),
        Option("token", "Opens it.", env="DECLARED_TOKEN", secret=True),
    )

    def tracking_uri(self, credentials, options):
        return "sqlite:///" + self.values(credentials, options)["workspace"]
"""


IMPORTED = (
    *("kedro.framework.cli.cli", "kedro.framework.cli.project", "kedro.framework.session"),
    *("kedro.runner", "mlflow.store.tracking.sqlalchemy_store"),
    *("mlflow.store.model_registry.sqlalchemy_store", "mlflow.tracking.fluent"),
)
"""The imports of every `kedro` command of these tests, in addition to its plugins."""


class Project:
    """A Kedro project in its own folder.

    Attributes:
        folder: Its folder.
        database: The URI of an SQLite store that is ready to use.
        environ: The environment of its commands.
    """

    def __init__(self, folder: Path, template: Path, site: Path, warm: WarmPython) -> None:
        self.folder = folder
        self._warm = warm
        self.template = template
        self.record = folder.parent / "record.jsonl"
        self.environ = {**os.environ, "RECORD": str(self.record), "PYTHONPATH": str(site)}
        self.environ |= {"COLUMNS": "1000"}
        self.write(
            "pyproject.toml",
            """
            [tool.kedro]
            package_name = "shop"
            project_name = "Shop"
            kedro_init_version = "1.0.0"
            source_dir = "src"
            """,
        )
        self.write("src/shop/__init__.py", "")
        self.write("src/shop/settings.py", "")
        self.write("src/shop/nodes.py", _NODES)
        self.write("src/shop/pipeline_registry.py", _PIPELINES)
        self.write("src/shop/__main__.py", _MAIN)
        self.write("conf/base/catalog.yml", "{}\n")
        self.write("conf/base/parameters.yml", "one: 1\ntwo: 2\n")
        self.write("conf/local/.gitkeep", "")
        self.database = self.store("mlflow.db")

    def write(self, name: str, text: str) -> None:
        """Write one file of the project."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())

    def store(self, name: str) -> str:
        """Create another SQLite store, and return its URI."""
        shutil.copy(self.template, self.folder / name)
        return f"sqlite:///{self.folder / name}"

    def server(self, env: str = "base", **settings: Any) -> None:
        """Write `server` of an environment's mlflow.yml."""
        self.write(f"conf/{env}/mlflow.yml", json.dumps({"server": settings}))

    def credentials(self, **entries: Any) -> None:
        """Write conf/base/credentials.yml."""
        self.write("conf/base/credentials.yml", json.dumps(entries))

    def python(
        self, *arguments: str, new: bool = False, **environ: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run Python in the project.

        Args:
            arguments: The arguments of the `python` command.
            new: Start a new interpreter, not a fork of one that has imported Kedro and MLflow.
            environ: More environment variables.
        """
        environment = {**self.environ, **environ}
        if not new:
            return self._warm.run(arguments, env=environment, cwd=self.folder)
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def kedro(
        self, *arguments: str, new: bool = False, **environ: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a `kedro` command."""
        return self.python("-m", "kedro", *arguments, new=new, **environ)

    def run(self, *arguments: str, new: bool = False, **environ: str) -> list[dict[str, Any]]:
        """Run the pipeline, and return the state that each node recorded."""
        done = self.kedro("run", *arguments, new=new, **environ)
        assert done.returncode == 0, done.stdout + done.stderr
        return self.seen()

    def fail(self, *arguments: str, **environ: str) -> str:
        """Run the pipeline, which must fail, and return the last line of output."""
        done = self.kedro("run", *arguments, new=False, **environ)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr.strip().splitlines()[-1]

    def metrics(self, uri: str | None = None) -> list[float]:
        """Fetch the values of the metric in a store, over MLflow's API."""
        from mlflow import MlflowClient

        client = MlflowClient(uri or self.database)
        experiments = [e.experiment_id for e in client.search_experiments()]
        runs = [r.info.run_id for r in client.search_runs(experiments)]
        return sorted(m.value for r in runs for m in client.get_metric_history(r, "answer"))

    def statuses(self, uri: str | None = None) -> list[str]:
        """Return the status of each run in a store, over MLflow's API."""
        from mlflow import MlflowClient

        client = MlflowClient(uri or self.database)
        experiments = [e.experiment_id for e in client.search_experiments()]
        return sorted(r.info.status for r in client.search_runs(experiments))

    def seen(self) -> list[dict[str, Any]]:
        """Return and forget the records of the nodes, in order."""
        rows = [json.loads(line) for line in self.record.read_text().splitlines()]
        self.record.unlink()
        return rows


_MAIN = """
import sys
from pathlib import Path

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main(*args, **kwargs):
    configure_project(Path(__file__).parent.name)
    return find_run_command("shop")(*args, **kwargs)


if __name__ == "__main__":
    main()
"""


def distribution(site: Path, name: str, module: str, code: str, entry_points: str) -> None:
    """Install a distribution into a folder."""
    path = site / f"{module.replace('.', '/')}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    if "." in module:
        (path.parent / "__init__.py").touch()
    path.write_text(textwrap.dedent(code).lstrip())
    info = site / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(entry_points).lstrip())


@pytest.fixture(scope="session")
def with_kedro_mlflow() -> bool:
    """Whether kedro-mlflow is installed; both kinds of session run the same tests."""
    return find_spec("kedro_mlflow") is not None


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create one SQLite store to copy: creating one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the plugins: two as the specification writes them, one with declared options."""
    site = tmp_path_factory.mktemp("site")
    distribution(
        site,
        "my-package",
        "my_package.my_module",
        _SPECIFIED,
        """
        [kedro_mlflow.connections]
        my_connection = my_package.my_module:my_connection
        lake = my_package.my_module:Lake
        vault = my_package.my_module:Vault
        """,
    )
    distribution(
        site,
        "declared-plugin",
        "declared_plugin",
        _DECLARED,
        """
        [kedro_mlflow.connections]
        declared = declared_plugin:Declared
        """,
    )
    return site


@pytest.fixture(scope="session")
def warm_kedro() -> Iterator[WarmPython]:
    """A server of commands that has imported Kedro, its plugins and MLflow."""
    groups = ("kedro.hooks", "kedro.global_commands", "kedro.project_commands")
    plugins = {entry.module for group in groups for entry in entry_points(group=group)}
    # Kedro's log asks for the width of the terminal when it is imported.
    with serving(*OF_MLFLOW, *IMPORTED, *sorted(plugins), COLUMNS="1000") as server:
        yield server


@pytest.fixture
def project(tmp_path: Path, template: Path, site: Path, warm_kedro: WarmPython) -> Project:
    """A new Kedro project."""
    return Project(tmp_path / "shop", template, site, warm_kedro)


@pytest.fixture
def second(tmp_path: Path, template: Path, site: Path, warm_kedro: WarmPython) -> Project:
    """A second Kedro project, with a package of the same name."""
    return Project(tmp_path / "second", template, site, warm_kedro)
