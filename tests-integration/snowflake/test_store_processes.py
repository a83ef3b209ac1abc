"""The store in separate processes: outside of Snowflake, from a zip, and killed."""

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import mlflow
import pytest

import mlflow_connections
import mlflow_connections_snowflake
from mlflow_connections_snowflake import store

MODULES = {
    "mlflow-connections": mlflow_connections,
    "mlflow-connections-snowflake": mlflow_connections_snowflake,
}


def run(bridge: Any, script: str, folder: Path, code: int = 0, path: tuple[Path, ...] = ()) -> str:
    """Run a script as a person does, with the account in connections.toml; return its output.

    With a path, only that path and the standard library are on Python's path.
    """
    environment = {**os.environ, **bridge.stand_in.environment()}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
    done = subprocess.run(
        [sys.executable, *(["-S"] if path else []), "-c", textwrap.dedent(script)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout.strip()


def without_ours(folder: Path) -> Path:
    """Create a folder with all installed packages except this project's."""
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith("mlflow_connections") and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder


def test_outside_of_snowflake_a_connection_is_opened(bridge: Any, tmp_path: Path) -> None:
    """The keyword with a named connection logs; a run that the script does not end is complete and ended at exit."""
    run_id = run(
        bridge,
        f"""
        import mlflow, mlflow_connections
        options = {{"config": {str(bridge.config)!r}, "connection": "sandbox"}}
        mlflow_connections.use("snowflake", options=options)
        mlflow.set_experiment("outside")
        run = mlflow.start_run()
        for step in range(10):
            mlflow.log_metric("m", step, step=step)
        mlflow.log_text("x", "x.txt")
        print(run.info.run_id)
        """,
        tmp_path,
    )
    read = bridge.mlflow.get_run(run_id)
    assert read.info.status == "FINISHED"
    assert len(bridge.mlflow.get_metric_history(run_id, "m")) == 10
    # MLflow 2 looks for a server's artifacts at the current URI, whatever the client's URI is.
    mlflow.set_tracking_uri(bridge.mlflow.tracking_uri)
    assert [i.path for i in bridge.mlflow.list_artifacts(run_id)] == ["x.txt"]


@pytest.mark.parametrize("way", ["entry points", pytest.param("by hand", marks=pytest.mark.slow)])
def test_from_a_zip(bridge: Any, tmp_path: Path, way: str) -> None:
    """From a zip on sys.path the scheme is found through its dist-info, or registered explicitly."""
    archive = tmp_path / "packages.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for distribution, module in MODULES.items():
            assert module.__file__ is not None
            package = Path(module.__file__).parent
            for path in sorted(package.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    packed.write(path, path.relative_to(package.parent))
            if way == "entry points":
                installed = importlib.metadata.distribution(distribution)
                info = f"{distribution.replace('-', '_')}-{installed.version}.dist-info"
                for name in ("METADATA", "entry_points.txt"):
                    packed.writestr(f"{info}/{name}", installed.read_text(name) or "")
    run_id = run(
        bridge,
        f"""
        import mlflow
        if {way!r} == "by hand":
            from mlflow_connections_snowflake import store
            store.register()
        mlflow.set_tracking_uri({store.Bridge.of(bridge.setup, connection="sandbox").uri()!r})
        mlflow.set_experiment("zipped")
        with mlflow.start_run() as run:
            mlflow.log_metric("m", 1)
        import mlflow_connections_snowflake as package
        assert package.__file__.startswith({str(archive)!r}), package.__file__
        print(run.info.run_id)
        """,
        tmp_path,
        path=(archive, without_ours(tmp_path / "site")),
    )
    assert bridge.mlflow.get_run(run_id).data.metrics == {"m": 1.0}


def test_a_killed_process_loses_less_than_a_request(bridge: Any, tmp_path: Path) -> None:
    """Kill -9 loses only the buffered values, which are fewer than 1,000."""
    uri = store.Bridge.of(bridge.setup, connection="sandbox", flush_seconds=3600.0).uri()
    printed = run(
        bridge,
        f"""
        import mlflow, os, signal
        mlflow.set_tracking_uri({uri!r})
        mlflow.set_experiment("killed")
        run = mlflow.start_run()
        for step in range(2500):
            mlflow.log_metric("m", step, step=step)
        print(run.info.run_id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
        code=-9,
    )
    values = bridge.mlflow.get_metric_history(printed, "m")
    assert [metric.step for metric in values] == list(range(2000))
