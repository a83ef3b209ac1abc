"""The main demo: one Kedro project, run once per connection, and a table of the results on each server.

`nox -s demo` runs it. The project in `wine/` is copied to `build/demo` and run there by `kedro run
--env CONNECTION`, always with the same code. The results are read over MLflow's API from the server
behind the sandbox, never from the client's own report. The server behind `durable` is killed in the
middle of the run and started again, and its run is compared with the one without a server. Finally
a page shows a picture of all runs, `build/demo/runs.html`; `--open` opens it and keeps the servers
running until Ctrl-C.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import webbrowser
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import outage
from mlflow import MlflowClient
from mlflow.entities import Run
from ports import free_ports, reserved_ports
from runs_page import Shown, page
from sklearn.datasets import load_wine

from mlflow_connections.reports import table
from mlflow_connections_sandbox import Sandbox, StandIn
from mlflow_connections_sandbox.databand import Databand, compare
from mlflow_connections_snowflake import load

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "build" / "demo"
PLAIN = "sqlite"
STAND_INS = ("databricks", "azureml", "http", "databand", "snowflake")
"""Each is a keyword, a stand-in of the sandbox and an environment of the Kedro project."""
CONNECTIONS = (*STAND_INS, outage.NAME)

CONFUSION = "confusion_matrix.png"
"""The artifact that the project's last node logs."""

# Variables of a developer's own shell that would send a run somewhere else.
_LEADING_ELSEWHERE = ("MLFLOW_", "DATABRICKS_", "AZURE", "DBND_", "SNOWFLAKE_")
_PROGRESS = re.compile(r"Completed node: (\w+)")


TABLE_WIDTH = 80
"""The width of a terminal with default settings, in characters."""


class Arrived(NamedTuple):
    """One run of the project, as MLflow stores it.

    Attributes:
        name: The connection of the run.
        run: The run.
        artifacts: The paths of its artifacts.
        model: Whether its logged model can be loaded and used.
        registered: The number of its versions in the model registry.
        predictions: The probabilities that the model predicts for all wines.
        loss: The training loss after each epoch.
        confusion: Its logged picture, as PNG; empty if there is none.
        compared: `equal`, or the number of differences from the run or copy that it was compared
            with; empty if it was not compared.
    """

    name: str
    run: Run
    artifacts: list[str]
    model: str
    registered: int
    predictions: list[list[float]]
    loss: list[float]
    confusion: bytes
    compared: str = ""

    @property
    def is_complete(self) -> bool:
        """Return whether everything that the project logs was stored."""
        return bool(
            self.run.info.status == "FINISHED"
            and self.run.data.params
            and "accuracy" in self.run.data.metrics
            and self.confusion
            and self.model == "loads"
            and self.registered
            and self.compared in {"", "equal"}
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
            "compared": self.compared,
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
    times = f"The same project, {1 + len(chosen)} times: {PLAIN}, {', '.join(chosen)}."
    print(f"{textwrap.fill(times, TABLE_WIDTH)}\n", flush=True)
    store = f"sqlite:///{project / 'mlflow.db'}"
    with ExitStack() as stack:
        scene = sandbox = None
        if outage.NAME in chosen:
            # Its server starts during the first run.
            (port,) = stack.enter_context(reserved_ports())
            scene = stack.enter_context(outage.Outage(FOLDER / outage.NAME, port))
        run_project(project, PLAIN, {})
        runs = [read_back(PLAIN, store)]
        if stand_ins := [name for name in chosen if name != outage.NAME]:
            sandbox = stack.enter_context(started(stand_ins, page=parsed.open))
            runs += [run_at_stand_in(sandbox, name, project) for name in stand_ins]
        if scene:
            runs.append(run_through_outage(scene, project, store, runs[0]))
        servers = dict.fromkeys(stand_ins, sandbox.mlflow_url if sandbox else "")
        if scene:
            servers[outage.NAME] = scene.server.url
        link = write_page(runs, servers if parsed.open else {})
        tell(runs, link, kept(store, sandbox, scene))
        if parsed.open:
            keep_serving(sandbox, scene, link)
    return 0 if all(run.is_complete for run in runs) else 1


def run_at_stand_in(sandbox: Sandbox, name: str, project: Path) -> Arrived:
    """Run the project through a stand-in, and fetch the results from the server behind it."""
    if name in PREPARATIONS:
        PREPARATIONS[name](sandbox[name], project)
    run_project(project, name, sandbox.environment(name))
    arrived = read_back(name, sandbox.mlflow_url)
    return arrived._replace(compared=compared_copy(sandbox[name], sandbox.mlflow_url, arrived))


def run_through_outage(scene: outage.Outage, project: Path, store: str, plain: Arrived) -> Arrived:
    """Run the project while its server is killed and comes back, and compare the run with the plain one.

    Args:
        scene: The server.
        project: The project's folder.
        store: The tracking URI of the plain run.
        plain: The plain run.
    """
    run_project(project, outage.NAME, scene.environment(), scene.follow)
    found = scene.differences(store, experiment_of(PLAIN), experiment_of(outage.NAME))
    arrived = read_back(outage.NAME, scene.server.url)
    if arrived.predictions != plain.predictions:
        found.append("the model's predictions differ")
    return arrived._replace(compared=verdict(outage.NAME, found))


class Kept(NamedTuple):
    """The data of an MLflow server, which another one can serve again.

    Attributes:
        where: Its name in the demo's output.
        store: The URI of its database.
        artifacts: The folder of its artifacts; empty if the database names it.
    """

    where: str
    store: str
    artifacts: str = ""


def kept(plain: str, sandbox: Sandbox | None, scene: outage.Outage | None) -> list[Kept]:
    """Return all data that the demo leaves."""
    servers = {"behind the stand-ins": sandbox.server} if sandbox else {}
    if scene:
        servers["behind durable"] = scene.server
    return [
        Kept("without a server", plain),
        *(
            Kept(
                where, f"sqlite:///{server.folder / 'mlflow.db'}", f"{server.folder / 'artifacts'}"
            )
            for where, server in servers.items()
        ),
    ]


def tell(runs: "Sequence[Arrived]", link: str, left: Sequence[Kept]) -> None:
    """Print the table, its explanation, and the next commands."""
    print(f"\n{table([run.row() for run in runs], width=TABLE_WIDTH)}\n")
    incomplete = [run.name for run in runs if not run.is_complete]
    verdict = f"INCOMPLETE: {', '.join(incomplete)}" if incomplete else "Every run is complete"
    print(f"{verdict}, as read back over MLflow's API from the server behind it.")
    for run in runs:
        if run.compared:
            print(COMPARISONS[run.name])
    print(f"\nA picture of the runs: {link}\n\nServe them again with MLflow's own pages:\n")
    for port, (where, uri, artifacts) in zip(free_ports(len(left)), left, strict=True):
        # Four workers, as by default, would import MLflow four times.
        lines = [
            [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)],
            ["--backend-store-uri", uri],
            *([["--artifacts-destination", artifacts]] if artifacts else []),
        ]
        command = " \\\n    ".join(map(shlex.join, lines))
        print(f"  # {where}, at http://127.0.0.1:{port}\n  {command}", flush=True)


COMPARISONS = {
    "databand": "databand: its stand-in's copy was compared with MLflow, event by event.",
    outage.NAME: (
        "durable: its server was killed in the middle of the run and started again, and\n"
        "everything there was compared with the run without a server."
    ),
}
"""The explanation of `compared`, for the connections that have it."""


def write_page(runs: "Sequence[Arrived]", servers: Mapping[str, str]) -> str:
    """Write a page with a picture of every run, and return its link.

    Args:
        runs: The runs.
        servers: The address of the server that shows a connection's run, if it stays available.
    """
    shown = []
    for run in runs:
        info = run.run.info
        place = f"#/experiments/{info.experiment_id}/runs/{info.run_id}"
        server = servers.get(run.name)
        link = f"{server}/{place}" if server else ""
        shown.append(Shown(run.row(), run.loss, run.confusion, link))
    note = "The same Kedro project, run once per connection, as MLflow's API returned the runs."
    file = FOLDER / "runs.html"
    file.write_text(page(shown, note), encoding="utf-8")
    return file.as_uri()


def keep_serving(sandbox: Sandbox | None, scene: outage.Outage | None, link: str) -> None:
    """Show the page of the runs, and serve until Ctrl-C."""
    print()
    if sandbox:
        print(f"MLflow's own pages: {sandbox.mlflow_url}")
    if scene:
        print(f"MLflow's own pages behind durable: {scene.server.url}")
    if sandbox:
        print(f"The sandbox's page: {sandbox.page_url}")
    print("They are there until Ctrl-C.", flush=True)
    if not webbrowser.open(link):
        print(f"No web browser was found to open {link}.", file=sys.stderr)
    # Set explicitly, because a shell lets background commands of a script ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def prepare() -> Path:
    """Copy the project to a folder in which it may leave files, and return that folder."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    return Path(shutil.copytree(HERE / "wine", FOLDER / "wine"))


@contextmanager
def started(names: list[str], *, page: bool) -> Iterator[Sandbox]:
    """Start the sandbox, and print a note: the MLflow server takes some seconds."""
    print("sandbox     starting a real MLflow server behind the stand-ins ...", flush=True)
    with Sandbox(FOLDER / "sandbox", names, page=page) as sandbox:
        for name in names:
            print(f"{name:<11} stand-in at {sandbox[name].url}", flush=True)
        yield sandbox


def prepare_azureml(stand_in: Any, _project: Path) -> None:
    """Enable MLflow 3's logged models in the workspace, which Azure lacked in early 2026.

    Without them MLflow 3 cannot log a model there; docs/azureml.md has the workaround.
    """
    stand_in.account.has_logged_models = True


def prepare_snowflake(stand_in: Any, project: Path) -> None:
    """Set up the bridge as an administrator does: apply the SQL, establish the cloud's trust, check."""
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


def nodes_done(line: str) -> Iterator[str]:
    """Yield the node that has ended, according to a line that Kedro prints."""
    if found := _PROGRESS.search(line):
        yield f"{found[1]} done"


def run_project(
    project: Path,
    name: str,
    environment: Mapping[str, str],
    follow: Callable[[str], Iterable[str]] = lambda _: (),
) -> None:
    """Run the project in a clean environment, and print each node as it ends.

    Args:
        project: Its folder.
        name: The environment of the project.
        environment: Variables of the run.
        follow: Called with each line that the run prints; returns further progress.

    Raises:
        SystemExit: The run failed; its last lines are shown.
    """
    begun = time.monotonic()
    command = [sys.executable, "-m", "kedro", "run"]
    command += [] if name == PLAIN else ["--env", name]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_LEADING_ELSEWHERE)}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    wanted = {"MLFLOW_EXPERIMENT_NAME": experiment_of(name), "COLUMNS": "1000"}
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
            for text in (*nodes_done(line), *follow(line)):
                print(progress(f"{name:<11} {time.monotonic() - begun:5.1f} s  ", text), flush=True)
        if process.wait():
            output.seek(0)
            print("".join(output.readlines()[-40:]), file=sys.stderr)
            raise SystemExit(f"`kedro run` failed for {name}.")


def progress(place: str, text: str) -> str:
    """Return a text after its prefix, wrapped to the terminal's width."""
    indent = " " * len(place)
    return textwrap.fill(
        text,
        TABLE_WIDTH,
        initial_indent=place,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def compared_copy(stand_in: StandIn, mlflow_url: str, arrived: Arrived) -> str:
    """Compare a stand-in's copy with the run in MLflow; return the empty string if there is no copy."""
    if not isinstance(stand_in, Databand):
        return ""
    return verdict(stand_in.name, compare(mlflow_url, stand_in, experiment_of(arrived.name)))


def verdict(name: str, differences: Sequence[str]) -> str:
    """Return `equal` or the number of differences, which are printed."""
    for difference in differences:
        print(f"{name}: {difference}", file=sys.stderr)
    return f"{len(differences)} differences" if differences else "equal"


def experiment_of(name: str) -> str:
    """Return the experiment of a connection's run."""
    return f"/Shared/wine-{name}"


def read_back(name: str, uri: str) -> Arrived:
    """Fetch the newest run of a connection's experiment, its artifacts and its model."""
    experiment = experiment_of(name)
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        raise SystemExit(f"MLflow at {uri} has no experiment {experiment}.")
    run = client.search_runs([found.experiment_id], max_results=1)[0]
    run_id = run.info.run_id
    artifacts = [file.path for file in client.list_artifacts(run_id)]
    mlflow.set_tracking_uri(uri)
    model = mlflow.sklearn.load_model(f"runs:/{run_id}/model")
    wines = load_wine(as_frame=True).data
    predictions = model.predict_proba(wines).tolist() if hasattr(model, "predict_proba") else []
    confusion = b""
    if CONFUSION in artifacts:
        confusion = Path(client.download_artifacts(run_id, CONFUSION)).read_bytes()
    history = client.get_metric_history(run_id, "training_loss")
    return Arrived(
        name=name,
        run=run,
        artifacts=artifacts,
        model="loads" if predictions else "does not load",
        registered=len(client.search_model_versions(f"run_id = '{run_id}'")),
        predictions=predictions,
        loss=[metric.value for metric in sorted(history, key=lambda metric: metric.step)],
        confusion=confusion,
    )


if __name__ == "__main__":
    sys.exit(main())
