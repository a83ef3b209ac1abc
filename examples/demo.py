"""The main job: one Kedro project, run once per connection, and a table of what arrived where.

`nox -s demo` runs it. The project in `wine/` is copied to `build/demo` and run there by
`kedro run --env CONNECTION`; its code is the same each time. The result is read back over MLflow's API
from the server behind the sandbox, never from the client's own report.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from mlflow_connections.reports import table
from mlflow_connections_sandbox import Sandbox, StandIn
from mlflow_connections_sandbox.databand import Databand, compare
from mlflow_connections_snowflake import load

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "build" / "demo"
PLAIN = "sqlite"
CONNECTIONS = ("databricks", "azureml", "http", "databand", "snowflake")
"""Each is a keyword, a stand-in of the sandbox and an environment of the Kedro project."""

# Variables of a developer's own shell that would send a run somewhere else.
_LEADING_ELSEWHERE = ("MLFLOW_", "DATABRICKS_", "AZURE", "DBND_", "SNOWFLAKE_")
_PROGRESS = re.compile(r"Completed node: (\w+)")


class Arrived(NamedTuple):
    """One run of the project, as MLflow has it."""

    run: Run
    artifacts: list[str]
    model: str


def main() -> int:
    """Run the project through every connection, and return 0 if each run is complete."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="CONNECTION", help=", ".join(CONNECTIONS))
    chosen = parser.parse_args().names or list(CONNECTIONS)
    project = prepare()
    rows = []
    print(f"The same project, {1 + len(chosen)} times: {PLAIN}, {', '.join(chosen)}.\n", flush=True)
    store = f"sqlite:///{project / 'mlflow.db'}"
    run_project(project, PLAIN, {})
    rows.append({**row(PLAIN, "no server", store), "copy": ""})
    with started(chosen) as sandbox:
        for name in chosen:
            if name in PREPARATIONS:
                PREPARATIONS[name](sandbox[name], project)
            run_project(project, name, sandbox.environment(name))
            rows.append(row(name, f"stand-in {sandbox[name].url}", sandbox.mlflow_url))
            rows[-1]["copy"] = copied(sandbox[name], sandbox.mlflow_url, f"/Shared/wine-{name}")
    print(f"\n{table(rows)}\n")
    print("Read back over MLflow's API from the store or the server behind the stand-in.")
    if "databand" in chosen:
        print("`copy` compares what Databand's stand-in received with MLflow, event by event.")
    print()
    print("Open it in MLflow's UI, the plain store or the one behind the stand-ins:\n")
    data = FOLDER / "sandbox" / "mlflow"
    for uri, artifacts in ((store, ""), (f"sqlite:///{data}/mlflow.db", f"{data}/artifacts")):
        served = f" --artifacts-destination {artifacts}" if artifacts else ""
        print(f"  {sys.executable} -m mlflow server --backend-store-uri {uri}{served}")
    return 0 if all(r["complete"] and r["copy"] in {"", "equal"} for r in rows) else 1


def prepare() -> Path:
    """Copy the project to a folder in which it may leave files, and return that folder."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    return Path(shutil.copytree(HERE / "wine", FOLDER / "wine"))


@contextmanager
def started(names: list[str]) -> Iterator[Sandbox]:
    """Start the sandbox, and print that: the MLflow server takes some seconds."""
    print("sandbox     starting a real MLflow server behind the stand-ins ...", flush=True)
    with Sandbox(FOLDER / "sandbox", names) as sandbox:
        yield sandbox


def prepare_azureml(stand_in: Any, _project: Path) -> None:
    """Return the workspace MLflow 3's logged models, which Azure lacked in early 2026.

    Without them MLflow 3 cannot log a model there; docs/azureml.md has the workaround.
    """
    stand_in.account.has_logged_models = True


def prepare_snowflake(stand_in: Any, project: Path) -> None:
    """Set up the bridge as an administrator does: apply the SQL, make the cloud trust it, check."""
    config = project / "conf" / "snowflake" / "snowflake.yml"
    for command in ("apply", "check"):
        done = subprocess.run(
            [str(Path(sys.executable).with_name("mlflow-snowflake")), command, "--config", config],
            env={**os.environ, **stand_in.environment()},
            capture_output=True,
            text=True,
            check=False,
        )
        said = (done.stderr if command == "apply" else done.stdout).strip().splitlines()
        print(f"snowflake   mlflow-snowflake {command}: {said[-1] if said else ''}", flush=True)
        if done.returncode:
            raise SystemExit(f"`mlflow-snowflake {command}` failed:\n{done.stdout}{done.stderr}")
        if command == "apply":
            setup = load(config)
            stand_in.trust(setup.require_gateway()[0].integration.object)
            if setup.storage is not None:
                stand_in.trust(setup.storage.integration.object)


PREPARATIONS: dict[str, Callable[[Any, Path], None]] = {
    "azureml": prepare_azureml,
    "snowflake": prepare_snowflake,
}
"""The steps that a service needs before a project can log to it."""


def run_project(project: Path, name: str, environment: Mapping[str, str]) -> None:
    """Run the project in a clean environment, and print each node as it ends.

    Raises:
        SystemExit: The run failed; its last lines are shown.
    """
    begun = time.monotonic()
    command = [sys.executable, "-m", "kedro", "run"]
    command += [] if name == PLAIN else ["--env", name]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_LEADING_ELSEWHERE)}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    wanted = {"MLFLOW_EXPERIMENT_NAME": f"/Shared/wine-{name}", "COLUMNS": "200"}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            cwd=project,
            env={**kept, **quiet, **wanted, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout
        for line in process.stdout:
            output.write(line)
            if found := _PROGRESS.search(line):
                elapsed = time.monotonic() - begun
                print(f"{name:<11} {elapsed:5.1f} s  {found[1]} done", flush=True)
        if process.wait():
            output.seek(0)
            print("".join(output.readlines()[-40:]), file=sys.stderr)
            raise SystemExit(f"`kedro run` failed for {name}.")


def row(name: str, where: str, uri: str) -> dict[str, Any]:
    """Fetch the run, and return a row of the table."""
    arrived = read_back(uri, f"/Shared/wine-{name}")
    data = arrived.run.data
    steps = MlflowClient(uri).get_metric_history(arrived.run.info.run_id, "training_loss")
    versions = MlflowClient(uri).search_model_versions(f"run_id = '{arrived.run.info.run_id}'")
    complete = bool(
        arrived.run.info.status == "FINISHED"
        and data.params
        and "accuracy" in data.metrics
        and "confusion_matrix.png" in arrived.artifacts
        and arrived.model == "loads"
    )
    return {
        "connection": name,
        "through": where,
        "run": arrived.run.info.run_id[:8],
        "status": arrived.run.info.status,
        "params": len(data.params),
        "metrics": len(data.metrics),
        "steps": len(steps),
        "artifacts": len(arrived.artifacts),
        "model": arrived.model,
        "registered": len(versions),
        "accuracy": f"{data.metrics.get('accuracy', float('nan')):.3f}",
        "complete": complete,
    }


def copied(stand_in: StandIn, mlflow_url: str, experiment: str) -> str:
    """Return whether the copy that a stand-in keeps equals the run in MLflow; empty if it keeps none."""
    if not isinstance(stand_in, Databand):
        return ""
    differences = compare(mlflow_url, stand_in, experiment)
    for difference in differences:
        print(f"{stand_in.name}: {difference}", file=sys.stderr)
    return f"{len(differences)} differences" if differences else "equal"


def read_back(uri: str, experiment: str) -> Arrived:
    """Fetch the newest run of an experiment, its artifacts and its model."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        raise SystemExit(f"MLflow at {uri} has no experiment {experiment}.")
    run = client.search_runs([found.experiment_id], max_results=1)[0]
    artifacts = [file.path for file in client.list_artifacts(run.info.run_id)]
    mlflow.set_tracking_uri(uri)
    model = mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/model")
    return Arrived(run, artifacts, "loads" if hasattr(model, "predict") else "does not load")


if __name__ == "__main__":
    sys.exit(main())
