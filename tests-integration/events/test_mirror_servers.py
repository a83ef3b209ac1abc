"""Copies between two real servers, by the command and by the keyword: everything arrives once."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_connections import use
from mlflow_connections_events.ids import SOURCE_TAG
from mlflow_connections_events.testing import describe, differences
from mlflow_connections_mirror._source import SourceEndedError, SourceProcess
from mlflow_connections_sandbox import MlflowServer

# No MLflow version has all attributes of another.
mlflow: Any = import_module("mlflow")
IS_MLFLOW_2 = mlflow.__version__.startswith("2.")
# MLflow 3.5 rounds a duration again when spans are logged again.
ROUNDED = ["traces/*/duration"] if mlflow.__version__.startswith("3.5.") else []
# The client and, since MLflow 3.17, the server write it, each in its own form.
WRITTEN_TWICE = "models/*/tags/mlflow.modelVersions"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_path")]


def start(*arguments: str) -> "subprocess.Popen[str]":
    """Start the command."""
    return subprocess.Popen(
        ["mlflow-connections", "mirror", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def mirror(*arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end, and check its exit code."""
    process = start(*arguments)
    out, error = process.communicate()
    assert process.returncode == code, out + error
    return subprocess.CompletedProcess(process.args, code, out, error)


def writes(proxy: Any) -> list[tuple[str, str]]:
    """Return the requests that change something."""
    return [
        (method, path)
        for method, path in proxy.requests
        if method != "GET" and not path.endswith("search")
    ]


def log_everything(name: str, folder: Path, train: Any, log_traces: Any) -> None:
    """Log every kind of entity, with as many references between them as MLflow allows."""
    train(name, folder)
    log_traces(name)
    client: Any = MlflowClient()
    experiment = client.get_experiment_by_name(name).experiment_id
    client.set_experiment_tag(experiment, "team", "red")
    running = client.create_run(experiment, run_name="running")
    client.log_metric(running.info.run_id, "loss", 0.5, step=1)
    first = client.create_run(experiment, run_name="first")
    last = client.create_run(experiment, run_name="last")
    client.set_tag(first.info.run_id, "best", last.info.run_id)
    for run in (first, last):
        client.set_terminated(run.info.run_id)
    if not IS_MLFLOW_2:
        log_models(client, name, experiment, first.info.run_id)
    register(client, name, last.info)


def log_models(client: Any, name: str, experiment: str, other_run: str) -> None:
    """Log models with metrics, a version and an alias, as the input of an earlier run, and without a run."""

    class Doubling(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # of no known type
        def predict(
            self, context: Any, model_input: list[float], params: Any = None
        ) -> list[float]:
            return [2 * x for x in model_input]

    with mlflow.start_run(run_name="modelled"):
        logged = mlflow.pyfunc.log_model(
            name="double",
            python_model=Doubling(),
            pip_requirements=[],
            registered_model_name=f"{name} double",
        )
        mlflow.log_metric("accuracy", 0.75, step=3, model_id=logged.model_id)
    client.set_logged_model_tags(logged.model_id, {"checked": "yes"})
    client.set_registered_model_alias(f"{name} double", "champion", "1")
    client.log_inputs(other_run, models=[mlflow.entities.LoggedModelInput(logged.model_id)])
    alone = mlflow.initialize_logged_model(name="alone", params={"depth": "3"}, tags={"t": "1"})
    mlflow.finalize_logged_model(alone.model_id, "FAILED")


def register(client: Any, name: str, run: Any) -> None:
    """Register versions of files, with tags, descriptions and an alias."""
    client.create_registered_model(name, {"kind": "red"}, "A wine.")
    for number in (1, 2, 3):
        client.create_model_version(
            name, f"{run.artifact_uri}/a", run.run_id, {"n": str(number)}, description=f"{number}."
        )
    client.set_registered_model_alias(name, "best", "2")
    client.set_model_version_tag(name, "1", "run", f"in run {run.run_id}")


@pytest.fixture(autouse=True)
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the outboxes of a test in a folder of its own."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "outbox"))


@pytest.fixture
def name(tmp_path: Path) -> str:
    """The name of the experiment, unique to this test."""
    return f"moved {tmp_path.name}"


@pytest.fixture
def filled(
    name: str,
    train: Any,
    log_traces: Any,
    other_server: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """A server with an experiment that contains every kind of entity."""
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(other_server.url)
    mlflow.set_registry_uri(other_server.url)
    log_everything(name, tmp_path, train, log_traces)
    return other_server.url


def few_runs(url: str, name: str, count: int = 6, odd: float = math.nan) -> list[str]:
    """Log runs with params, metrics, a file, and a version of each, and return their IDs."""
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    mlflow.set_experiment(name)
    client = MlflowClient()
    client.create_registered_model(name)
    found = []
    for number in range(count):
        with mlflow.start_run(run_name=f"run {number}") as run:
            mlflow.log_param("number", number)
            for step in range(5):
                mlflow.log_metrics({"loss": 1 / (step + 1), "odd": odd}, step=step)
            mlflow.log_text("x" * 1_000, "a.txt")
        client.create_model_version(name, f"{run.info.artifact_uri}/a.txt", run.info.run_id)
        found.append(run.info.run_id)
    return found


def assert_equal(
    source: str, target: str, name: str, ignore: Sequence[str] = ROUNDED
) -> dict[str, Any]:
    """Compare an experiment on two servers, and return the description of the second."""
    expected = describe(source, experiments=[name])
    arrived = describe(target, experiments=[name])
    assert differences(expected, arrived, ignore=[*ignore, WRITTEN_TWICE]) == []
    return arrived


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def target(
    request: pytest.FixtureRequest,
    start_server: Callable[..., MlflowServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> MlflowServer:
    """A server with a database of each kind."""
    if request.param == "sqlite":
        found: MlflowServer = request.getfixturevalue("mlflow_server")
        return found
    database = request.getfixturevalue("postgresql")
    return start_server(tmp_path_factory.mktemp("target"), database)


def test_everything_moves_to_another_server_and_a_second_copy_writes_nothing(
    filled: str, name: str, target: MlflowServer, make_proxy: Callable[[str], Any]
) -> None:
    """All entities are equal, models load, and the second copy reads both servers and changes neither."""
    proxy = make_proxy(target.url)
    command = (name, "--from", filled, "--to", proxy.url, "--output", "json")
    first = json.loads(mirror(*command).stdout)
    assert first["rejected"] == []
    assert first["unchanged"] == {"experiments": 1} or first["unchanged"] == {}
    arrived = assert_equal(filled, target.url, name)
    assert len(arrived["runs"]) == len(first["runs"]) == (8 if IS_MLFLOW_2 else 9)
    assert arrived["runs"][f"{name}/running"]["status"] == "RUNNING"
    assert arrived["runs"][f"{name}/first"]["tags"]["best"] == f"<run {name}/last>"
    if not IS_MLFLOW_2:
        assert_model_loads(target.url, f"models:/{name} double@champion")
    sent = len(writes(proxy))
    proxy.requests.clear()
    again = json.loads(mirror(*command).stdout)
    # A running run may have changed a file without changing its size.
    assert writes(proxy) == []
    assert len(proxy.requests) < sent
    assert again["unchanged"]["runs"] == len(first["runs"])
    assert {**again, "unchanged": 0} == {**first, "unchanged": 0}


def assert_model_loads(url: str, model: str) -> None:
    """Load a model of a server and use it."""
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    assert mlflow.pyfunc.load_model(model).predict([1.0, 2.0]) == [2.0, 4.0]


def test_only_changes_at_the_source_are_sent(
    name: str,
    other_server: MlflowServer,
    mlflow_server: MlflowServer,
    make_proxy: Callable[[str], Any],
) -> None:
    """One run of six has a new metric, a changed file and a new tag; the copy sends only those."""
    source = other_server.url
    runs = few_runs(source, name, odd=1.0)
    proxy = make_proxy(mlflow_server.url)
    command = (name, "--from", source, "--to", proxy.url)
    mirror(*command)
    client = MlflowClient(source)
    client.log_metric(runs[3], "loss", 0.01, step=9)
    client.set_tag(runs[3], "added", "later")
    client.log_text(runs[3], "longer " * 400, "a.txt")
    proxy.requests.clear()
    out = mirror(*command).stdout
    assert_equal(source, mlflow_server.url, name)
    assert sorted(path.rpartition("/")[2] for _, path in writes(proxy)) == ["a.txt", "log-batch"]
    assert "Unchanged since they were copied: 1 experiment, 1 registered model, 5 runs." in out


def test_a_deleted_copy_returns_and_a_deleted_run_is_deleted(
    name: str, other_server: MlflowServer, mlflow_server: MlflowServer
) -> None:
    """The copy's state follows its run's, whatever was done to the copy."""
    source, target = other_server.url, mlflow_server.url
    runs = few_runs(source, name, 3)
    command = (name, "--from", source, "--to", target, "--output", "json")
    copies = json.loads(mirror(*command).stdout)["runs"]
    MlflowClient(target).delete_run(copies[runs[0]])
    MlflowClient(source).delete_run(runs[1])
    MlflowClient(source).set_tag(runs[2], "a", "1")
    MlflowClient(source).delete_run(runs[2])
    for _ in range(2):
        assert json.loads(mirror(*command).stdout)["runs"] == copies
        stages = [MlflowClient(target).get_run(copies[run]).info.lifecycle_stage for run in runs]
        assert stages == ["active", "deleted", "deleted"]
    MlflowClient(source).restore_run(runs[2])
    mirror(*command)
    found = MlflowClient(target).get_run(copies[runs[2]])
    assert (found.info.lifecycle_stage, found.data.tags["a"]) == ("active", "1")


def test_a_copy_of_a_copy_is_not_duplicated(
    name: str, other_server: MlflowServer, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    """The sources of the second copy are the runs of the first one, not those of the source."""
    source, between, last = other_server.url, mlflow_server.url, f"sqlite:///{tmp_path / 'last.db'}"
    few_runs(source, name, 2)
    mirror(name, "--from", source, "--to", between)
    for _ in range(2):
        mirror(name, "--from", between, "--to", last)
    assert len(assert_equal(source, last, name)["runs"]) == 2
    between_ids = {run.info.run_id for run in runs_of(between, name)}
    assert {run.data.tags[SOURCE_TAG] for run in runs_of(last, name)} == between_ids


def runs_of(url: str, name: str) -> list[Any]:
    """Return the runs of an experiment."""
    client = MlflowClient(url)
    found = client.get_experiment_by_name(name)
    return list(client.search_runs([found.experiment_id])) if found else []


def test_a_copy_that_is_killed_at_any_point_duplicates_nothing(
    name: str,
    other_server: MlflowServer,
    mlflow_server: MlflowServer,
    make_proxy: Callable[[str], Any],
) -> None:
    """The command is killed after more and more requests; finally everything is equal, each once."""
    few_runs(other_server.url, name)
    proxy = make_proxy(mlflow_server.url)
    command = (name, "--from", other_server.url, "--to", proxy.url)
    for count in (3, 6, 10, 12, 15, 20):
        proxy.requests.clear()
        started = start(*command)
        while len(writes(proxy)) < count and started.poll() is None:
            time.sleep(0.005)
        started.send_signal(signal.SIGKILL)
        started.communicate()
        assert started.returncode in {-signal.SIGKILL, 0}
    mirror(*command)
    assert len(assert_equal(other_server.url, mlflow_server.url, name)["runs"]) == 6


@pytest.mark.parametrize(
    "lost", ["experiments/create", "runs/create", "runs/log-batch", "model-versions/create"]
)
def test_a_lost_response_duplicates_nothing(
    lost: str,
    name: str,
    other_server: MlflowServer,
    mlflow_server: MlflowServer,
    make_proxy: Callable[[str], Any],
) -> None:
    """The destination does its work, two responses are lost, and the command retries."""
    few_runs(other_server.url, name, 3)
    proxy = make_proxy(mlflow_server.url)
    proxy.lose += [lost, lost]
    mirror(name, "--from", other_server.url, "--to", proxy.url)
    assert lost not in proxy.lose or lost == "experiments/create"
    assert len(assert_equal(other_server.url, mlflow_server.url, name)["runs"]) == 3


@pytest.mark.parametrize("side", ["source", "destination"])
def test_the_copy_waits_for_an_interrupted_connection(
    side: str,
    name: str,
    other_server: MlflowServer,
    mlflow_server: MlflowServer,
    make_proxy: Callable[[str], Any],
) -> None:
    """One of the servers is down for two seconds in the middle of a copy, which then continues."""
    few_runs(other_server.url, name)
    source, target = make_proxy(other_server.url), make_proxy(mlflow_server.url)
    away = source if side == "source" else target
    started = start(name, "--from", source.url, "--to", target.url)
    while not writes(target) and started.poll() is None:
        time.sleep(0.005)
    away.mode = "down"
    threading.Timer(2.0, lambda: setattr(away, "mode", "up")).start()
    out, error = started.communicate()
    assert started.returncode == 0, out + error
    assert_equal(other_server.url, mlflow_server.url, name)


def test_a_destination_that_stays_down_ends_the_command_with_one_sentence(
    name: str,
    other_server: MlflowServer,
    mlflow_server: MlflowServer,
    make_proxy: Callable[[str], Any],
) -> None:
    """The exit code is 1, no process is left, and the command copies the rest later."""
    few_runs(other_server.url, name)
    proxy = make_proxy(mlflow_server.url)
    started = start(name, "--from", other_server.url, "--to", proxy.url)
    while not writes(proxy) and started.poll() is None:
        time.sleep(0.005)
    proxy.mode = "down"
    _, error = started.communicate()
    assert started.returncode == 1
    assert len(error.strip().splitlines()) == 1, error
    assert f"The MLflow server at {proxy.url} does not take events now" in error
    proxy.mode = "up"
    mirror(name, "--from", other_server.url, "--to", proxy.url)
    assert_equal(other_server.url, mlflow_server.url, name)


def test_a_refused_part_is_reported_and_the_rest_arrives(
    name: str, other_server: MlflowServer, mlflow_server: MlflowServer
) -> None:
    """A param with another value on the destination is listed at each copy, with exit code 1."""
    runs = few_runs(other_server.url, name, 3)
    client = MlflowClient(mlflow_server.url)
    made = client.create_run(
        client.create_experiment(name), run_name="run 1", tags={SOURCE_TAG: runs[1]}
    )
    client.log_param(made.info.run_id, "number", "other")
    command = (name, "--from", other_server.url, "--to", mlflow_server.url)
    for _ in range(2):
        out = mirror(*command, code=1).stdout
        (line,) = (line for line in out.splitlines() if line.startswith("Not copied"))
        assert f"logged of run {runs[1]}" in line
        expected = describe(other_server.url, experiments=[name])
        arrived = describe(mlflow_server.url, experiments=[name])
        found = differences(expected, arrived, ignore=["runs/*/start", "runs/*/user"])
        assert len(found) == 1, found
        assert "number" in found[0]


def test_the_source_ends_with_the_command(name: str, other_server: MlflowServer) -> None:
    """A killed command leaves no process, and a killed source is one sentence."""
    few_runs(other_server.url, name, 1)
    source = SourceProcess(other_server.url)
    try:
        assert source.open() == other_server.url
        assert [item.kind for item in source.select([name])][:2] == ["experiment", "run"]
        os.kill(source.pid, signal.SIGKILL)
        with pytest.raises(SourceEndedError, match="Run the command again"):
            source.registered()
    finally:
        source.close()
    script = (
        "import time, sys; from mlflow_connections_mirror._source import SourceProcess\n"
        "print(SourceProcess(sys.argv[1]).pid, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script, other_server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        process.kill()
    while Path(f"/proc/{pid}").exists() and is_running(pid):
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ----- a copy while runs are logged


@contextmanager
def flapping(proxy: Any) -> Iterator[None]:
    """Have a server away every other half second."""
    ended = threading.Event()

    def flap() -> None:
        while not ended.wait(0.5):
            proxy.mode = "down" if proxy.mode == "up" else "up"

    thread = threading.Thread(target=flap)
    thread.start()
    yield
    ended.set()
    thread.join()


@contextmanager
def away(proxy: Any, how: str) -> Iterator[None]:
    """Have a server away in one of several ways, and there again after that."""
    if how == "flapping":
        with flapping(proxy):
            yield
    else:
        proxy.mode = how
        yield
    proxy.mode = "up"


def ship() -> None:
    """Deliver everything that waits."""
    done = subprocess.run(
        ["mlflow-connections", "outbox", "ship", "--timeout", "300"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("how", ["up", "down", "hang", "busy", "login", "flapping"])
def test_a_copy_that_is_away_stops_nothing_and_is_equal_once_it_is_back(
    how: str,
    name: str,
    train: Any,
    log_traces: Any,
    other_server: MlflowServer,
    mlflow_server: MlflowServer,
    make_proxy: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """User code gets the primary's answers, also where the copy never answers, and everything arrives later."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT", "0")
    proxy = make_proxy(mlflow_server.url)
    options = {"primary": other_server.url, "copy": proxy.url}
    with away(proxy, how), use("mirror", {}, options):
        log_everything(name, tmp_path, train, log_traces)
        found = describe(other_server.url, experiments=[name])
        assert len(found["runs"]) == (8 if IS_MLFLOW_2 else 9)
        assert how in {"up", "flapping"} or proxy.requests == []
    ship()
    # Two threads of MLflow's send spans and the end of a trace at once; the later one rounds the duration.
    assert_equal(other_server.url, mlflow_server.url, name, ["traces/*/duration"])


TRAIN = """
import sys
import mlflow
import mlflow_connections

with mlflow_connections.use("mirror", {}, {"primary": sys.argv[1], "copy": sys.argv[2]}):
    mlflow.set_experiment(sys.argv[3])
    with mlflow.start_run(run_name="killed"):
        for step in range(100_000):
            mlflow.log_metric("loss", 0.5, step=step)
            print(step, flush=True)
"""


def test_a_training_that_is_killed_while_the_copy_is_down_is_copied(
    name: str,
    other_server: MlflowServer,
    mlflow_server: MlflowServer,
    make_proxy: Callable[[str], Any],
) -> None:
    """All that was logged arrives from the disk, and the command brings a value that was cut off."""
    proxy = make_proxy(mlflow_server.url)
    proxy.mode = "down"
    command = ["python", "-c", TRAIN, other_server.url, proxy.url, name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        logged = [int(process.stdout.readline()) for _ in range(50)]
        process.kill()
    proxy.mode = "up"
    ship()
    (run,) = runs_of(mlflow_server.url, name)
    history = MlflowClient(mlflow_server.url).get_metric_history(run.info.run_id, "loss")
    assert {metric.step for metric in history} >= set(logged)
    mirror(name, "--from", other_server.url, "--to", mlflow_server.url)
    (run,) = assert_equal(other_server.url, mlflow_server.url, name)["runs"].values()
    assert run["status"] == "RUNNING"


def test_two_servers_with_one_model_move_to_a_third(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both first versions arrive, each with its run, and copying both again adds nothing."""
    monkeypatch.chdir(tmp_path)
    target = f"sqlite:///{tmp_path / 'target.db'}"
    sources = [f"sqlite:///{tmp_path / name}.db" for name in ("one", "two")]
    for source in sources:
        mlflow.set_tracking_uri(source)
        with mlflow.start_run(run_name=source[-6:]) as run:
            mlflow.log_text(source, "a.txt")
        client = MlflowClient(source)
        client.create_registered_model("wine")
        client.create_model_version("wine", f"{run.info.artifact_uri}/a.txt", run.info.run_id)
        client.create_model_version("wine", f"s3://bucket/{source[-6:]}")
        client.set_registered_model_alias("wine", f"of-{source[-6:-3]}", "1")
    for _ in range(2):
        for source in sources:
            mirror("Default", "--from", source, "--to", target)
        copy = MlflowClient(target)
        runs = {run.info.run_id: run.info.run_name for run in copy.search_runs(["0"])}
        versions = copy.search_model_versions("name = 'wine'")
        assert sorted(runs.values()) == ["one.db", "two.db"]
        assert sorted(runs[each.run_id] for each in versions if each.run_id) == ["one.db", "two.db"]
        for name in ("one", "two"):
            found = copy.get_model_version_by_alias("wine", f"of-{name}")
            assert runs[found.run_id] == f"{name}.db"
