"""The main job: one Kedro project, run once per connection, and a table of what arrived where.

`nox -s demo` runs it. The project in `wine/` is copied to `build/demo` and run there by
`kedro run --env CONNECTION`; its code is the same each time. The result is read back over MLflow's API
from the server behind the sandbox, never from the client's own report. At the end there is a page with a
picture of all runs, `build/demo/runs.html`; `--open` shows it and keeps the servers up until Ctrl-C.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from runs_page import Shown, page

from mlflow_connections.reports import table
from mlflow_connections_sandbox import Sandbox, StandIn
from mlflow_connections_sandbox.databand import Databand, compare
from mlflow_connections_snowflake import load

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "build" / "demo"
PLAIN = "sqlite"
CONNECTIONS = ("databricks", "azureml", "http", "databand", "snowflake")
"""Each is a keyword, a stand-in of the sandbox and an environment of the Kedro project."""

CONFUSION = "confusion_matrix.png"
"""The artifact that the project's last node logs."""

# Variables of a developer's own shell that would send a run somewhere else.
_LEADING_ELSEWHERE = ("MLFLOW_", "DATABRICKS_", "AZURE", "DBND_", "SNOWFLAKE_")
_PROGRESS = re.compile(r"Completed node: (\w+)")


TABLE_WIDTH = 80
"""Characters of a terminal that nobody has made wider."""


class Arrived(NamedTuple):
    """One run of the project, as MLflow has it.

    Attributes:
        name: The connection that it went through.
        run: The run.
        artifacts: The paths of its artifacts.
        model: Whether the model that it logged can be loaded and used.
        registered: The number of its versions in the model registry.
        loss: The training loss after each epoch.
        confusion: The picture that it logged, as PNG; empty if there is none.
        copy: Whether the copy that a stand-in keeps equals it; empty if none is kept.
    """

    name: str
    run: Run
    artifacts: list[str]
    model: str
    registered: int
    loss: list[float]
    confusion: bytes
    copy: str = ""

    @property
    def is_complete(self) -> bool:
        """Return whether everything that the project logs is there."""
        return bool(
            self.run.info.status == "FINISHED"
            and self.run.data.params
            and "accuracy" in self.run.data.metrics
            and self.confusion
            and self.model == "loads"
            and self.registered
            and self.copy in {"", "equal"}
        )

    def row(self) -> dict[str, Any]:
        """Return a row of the table."""
        data = self.run.data
        return {
            "connection": self.name,
            "params": len(data.params),
            "metrics": len(data.metrics),
            "steps": len(self.loss),
            "files": len(self.artifacts),
            "model": self.model,
            "registered": self.registered,
            "accuracy": f"{data.metrics.get('accuracy', float('nan')):.3f}",
            "copy": self.copy,
        }


def main() -> int:
    """Run the project through every connection, and return 0 if each run is complete."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="CONNECTION", help=", ".join(CONNECTIONS))
    parser.add_argument(
        "--open",
        action="store_true",
        help="show the runs in a web browser, and keep the servers up until Ctrl-C",
    )
    parsed = parser.parse_args()
    chosen = parsed.names or list(CONNECTIONS)
    project = prepare()
    print(f"The same project, {1 + len(chosen)} times: {PLAIN}, {', '.join(chosen)}.\n", flush=True)
    store = f"sqlite:///{project / 'mlflow.db'}"
    run_project(project, PLAIN, {})
    runs = [read_back(PLAIN, store)]
    with started(chosen, page=parsed.open) as sandbox:
        for name in chosen:
            if name in PREPARATIONS:
                PREPARATIONS[name](sandbox[name], project)
            run_project(project, name, sandbox.environment(name))
            arrived = read_back(name, sandbox.mlflow_url)
            copy = copied(sandbox[name], sandbox.mlflow_url, f"/Shared/wine-{name}")
            runs.append(arrived._replace(copy=copy))
        link = write_page(runs, sandbox.mlflow_url if parsed.open else "")
        tell(runs, link, store)
        if parsed.open:
            keep_serving(sandbox, link)
    return 0 if all(run.is_complete for run in runs) else 1


def tell(runs: "Sequence[Arrived]", link: str, store: str) -> None:
    """Print the table, what it says, and what to look at next."""
    print(f"\n{table([run.row() for run in runs], width=TABLE_WIDTH)}\n")
    incomplete = [run.name for run in runs if not run.is_complete]
    verdict = f"INCOMPLETE: {', '.join(incomplete)}" if incomplete else "Every run is complete"
    print(f"{verdict}, as read back over MLflow's API from the server behind the stand-in.")
    if any(run.copy for run in runs):
        print("`copy` compares what Databand's stand-in received with MLflow, event by event.")
    print(f"\nA picture of the runs: {link}\n\nServe them again with MLflow's own pages:\n")
    data = FOLDER / "sandbox" / "mlflow"
    served = ((store, ""), (f"sqlite:///{data / 'mlflow.db'}", str(data / "artifacts")))
    for port, (uri, artifacts) in zip(free_ports(len(served)), served, strict=True):
        # Four workers, as by default, would import MLflow four times.
        words = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
        words += ["--backend-store-uri", uri]
        words += ["--artifacts-destination", artifacts] if artifacts else []
        where = "behind the stand-ins" if artifacts else "without a server"
        print(f"  # {where}, at http://127.0.0.1:{port}\n  {shlex.join(words)}", flush=True)


def free_ports(count: int) -> list[int]:
    """Return free ports of loopback, from MLflow's own 5000 upwards."""
    found: list[int] = []
    port = 5000
    while len(found) < count:
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.append(port)
        port += 1
    return found


def write_page(runs: "Sequence[Arrived]", mlflow_url: str) -> str:
    """Write a page with a picture of every run, and return its link.

    Args:
        runs: The runs.
        mlflow_url: The server that shows those of the stand-ins; empty if it will be gone.
    """
    shown = []
    for run in runs:
        info = run.run.info
        place = f"#/experiments/{info.experiment_id}/runs/{info.run_id}"
        served = mlflow_url and run.name != PLAIN
        shown.append(
            Shown(run.row(), run.loss, run.confusion, f"{mlflow_url}/{place}" if served else "")
        )
    note = "The same Kedro project, run once per connection, as MLflow's API returned the runs."
    file = FOLDER / "runs.html"
    file.write_text(page(shown, note), encoding="utf-8")
    return file.as_uri()


def keep_serving(sandbox: Sandbox, link: str) -> None:
    """Show the page of the runs, and serve until Ctrl-C."""
    print(f"\nMLflow's own pages: {sandbox.mlflow_url}\nThe sandbox's page: {sandbox.page_url}")
    print("They are there until Ctrl-C.", flush=True)
    if not webbrowser.open(link):
        print(f"No web browser was found to open {link}.", file=sys.stderr)
    # Named, since a shell lets the commands that a script starts in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def prepare() -> Path:
    """Copy the project to a folder in which it may leave files, and return that folder."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    return Path(shutil.copytree(HERE / "wine", FOLDER / "wine"))


@contextmanager
def started(names: list[str], *, page: bool) -> Iterator[Sandbox]:
    """Start the sandbox, and print that: the MLflow server takes some seconds."""
    print("sandbox     starting a real MLflow server behind the stand-ins ...", flush=True)
    with Sandbox(FOLDER / "sandbox", names, page=page) as sandbox:
        for name in names:
            print(f"{name:<11} stand-in at {sandbox[name].url}", flush=True)
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


def copied(stand_in: StandIn, mlflow_url: str, experiment: str) -> str:
    """Return whether the copy that a stand-in keeps equals the run in MLflow; empty if it keeps none."""
    if not isinstance(stand_in, Databand):
        return ""
    differences = compare(mlflow_url, stand_in, experiment)
    for difference in differences:
        print(f"{stand_in.name}: {difference}", file=sys.stderr)
    return f"{len(differences)} differences" if differences else "equal"


def read_back(name: str, uri: str) -> Arrived:
    """Fetch the newest run of a connection's experiment, its artifacts and its model."""
    experiment = f"/Shared/wine-{name}"
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        raise SystemExit(f"MLflow at {uri} has no experiment {experiment}.")
    run = client.search_runs([found.experiment_id], max_results=1)[0]
    run_id = run.info.run_id
    artifacts = [file.path for file in client.list_artifacts(run_id)]
    mlflow.set_tracking_uri(uri)
    model = mlflow.sklearn.load_model(f"runs:/{run_id}/model")
    confusion = b""
    if CONFUSION in artifacts:
        confusion = Path(client.download_artifacts(run_id, CONFUSION)).read_bytes()
    history = client.get_metric_history(run_id, "training_loss")
    return Arrived(
        name=name,
        run=run,
        artifacts=artifacts,
        model="loads" if hasattr(model, "predict") else "does not load",
        registered=len(client.search_model_versions(f"run_id = '{run_id}'")),
        loss=[metric.value for metric in sorted(history, key=lambda metric: metric.step)],
        confusion=confusion,
    )


if __name__ == "__main__":
    sys.exit(main())
