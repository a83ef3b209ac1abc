"""`http` behind other connections: the processes that copy and deliver fetch tokens themselves, at any later time."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Run

from mlflow_connections import use
from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._http import ProtectedMlflow
from mlflow_connections_sandbox.databand import Databand

HERE = Path(__file__).parent
CONNECTIONS = """
[connections.first]
connection = "http"
url = "{first.url}"
issuer = "{first.issuer}"
client_id = "trainer"
audience = "mlflow"
credentials = {{ client_secret = {{ env = "FIRST_SECRET" }} }}

[connections.second]
connection = "http"
url = "{second.url}"
issuer = "{second.issuer}"
client_id = "trainer"
audience = "mlflow"
credentials = {{ client_secret = {{ env = "SECOND_SECRET" }} }}

[connections.mirrored]
connection = "mirror"
primary = "first"
copy = "second"

[connections.durable-first]
connection = "durable"
server = "first"

[connections.databand-first]
connection = "databand"
databand_url = "{tracker.url}"
duplicate_tracking_to = "first"
credentials = {{ access_token = {{ env = "DATABAND_TOKEN" }} }}
"""


@pytest.fixture
def second(mlflow_server: MlflowServer, tmp_path: Path) -> Iterator[ProtectedMlflow]:
    """Another protected server, with its own issuer and secret."""
    stand_in = ProtectedMlflow(mlflow_server.url, tmp_path / "second")
    stand_in.start()
    yield stand_in
    stand_in.close()


@pytest.fixture
def named(
    protected: ProtectedMlflow,
    second: ProtectedMlflow,
    tracker: Databand,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file of connections for both servers, whose tokens live for two seconds."""
    protected.lifetime = second.lifetime = 2.0
    path = tmp_path / "mlflow-connections.toml"
    path.write_text(CONNECTIONS.format(first=protected, second=second, tracker=tracker))
    monkeypatch.setenv("MLFLOW_CONNECTIONS_FILE", str(path))
    monkeypatch.setenv("FIRST_SECRET", protected.client.client_secret)
    monkeypatch.setenv("SECOND_SECRET", second.client.client_secret)
    monkeypatch.setenv("DATABAND_TOKEN", tracker.account.token)
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "outbox"))


@pytest.fixture
def find(mlflow_server: MlflowServer) -> Callable[[str], list[Run]]:
    """Return a function that finds the ended runs of a name on the MLflow server."""
    client = mlflow.MlflowClient(mlflow_server.url)

    def found(name: str) -> list[Run]:
        experiment = client.get_experiment_by_name("composed")
        if experiment is None:
            return []
        wanted = f"attributes.run_name = '{name}' and attributes.status = 'FINISHED'"
        return list(client.search_runs([experiment.experiment_id], wanted))

    return found


def log_and_end(connection: str, name: str) -> str:
    """Log a run in a separate process, and return its ID once that process has ended."""
    command = ["python", str(HERE / "log_and_end.py"), connection, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (run_id,) = re.findall(r"^[0-9a-f-]{32,}$", done.stdout, re.MULTILINE)
    return str(run_id)


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait for another process."""
    for _ in range(500):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("the other process did not deliver")


@pytest.mark.usefixtures("named")
@pytest.mark.usefixtures("warm_path")
def test_a_mirror_of_two_protected_servers(
    protected: ProtectedMlflow, second: ProtectedMlflow, find: Callable[[str], list[Run]]
) -> None:
    """The copy's server was down; after every token has expired, the shipper reads from one and writes to the other."""
    second.close()
    run_id = log_and_end("mirrored", "mirrored")
    time.sleep(2.0)  # every token of the process that ended has expired
    issued = protected.issued
    second.start()
    wait_for(lambda: len(find("mirrored")) == 2)
    (copy,) = [run for run in find("mirrored") if run.info.run_id != run_id]
    assert copy.data.metrics == {"m": 1.0}
    with use("second"):
        wait_for(lambda: mlflow.MlflowClient().list_artifacts(copy.info.run_id))
        assert mlflow.artifacts.load_text(f"runs:/{copy.info.run_id}/a.txt") == "kept"
    assert second.issued >= 1
    assert protected.issued > issued  # the artifact was read with the shipper's own token


@pytest.mark.usefixtures("named")
@pytest.mark.usefixtures("warm_path")
def test_durable_in_front_of_a_protected_server(
    protected: ProtectedMlflow, find: Callable[[str], list[Run]]
) -> None:
    """The server and its issuer were down while the process lived; the shipper signs in when they are back."""
    protected.close()
    log_and_end("durable-first", "durable")
    assert protected.issued == 0
    protected.start()
    wait_for(lambda: find("durable"))
    (run,) = find("durable")
    assert run.data.metrics == {"m": 1.0}
    with use("first"):
        wait_for(lambda: mlflow.MlflowClient().list_artifacts(run.info.run_id))
        assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/a.txt") == "kept"


@pytest.mark.usefixtures("named")
def test_databand_in_front_of_a_protected_server(
    protected: ProtectedMlflow, tracker: Databand
) -> None:
    """Runs are logged with tokens beyond their lifetime, and Databand gets its copy."""
    with use("databand-first"):
        mlflow.set_experiment("composed")
        with mlflow.start_run(run_name="databand") as started:
            mlflow.log_metric("m", 1.0)
            time.sleep(2.0)
            mlflow.log_text("kept", "a.txt")
        assert mlflow.artifacts.load_text(f"{started.info.artifact_uri}/a.txt") == "kept"
    wait_for(lambda: [run["name"] for run in tracker.runs()] == ["databand"])
    assert protected.issued >= 2
    assert protected.journal.counts().get(401, 0) == 0


def test_nodes_of_a_parallel_runner_get_tokens(
    protected: ProtectedMlflow, monkeypatch: pytest.MonkeyPatch, warm_python: str
) -> None:
    """Spawned workers of Kedro have no secret in their environment and log to the same server."""
    for name, value in protected.environment().items():
        monkeypatch.setenv(name, value)
    protected.lifetime = 2.0
    done = subprocess.run(
        [warm_python, str(HERE / "parallel_nodes.py")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KEDRO_MP_CONTEXT": "spawn"},
    )
    assert done.returncode == 0, done.stderr
    (run_id,) = re.findall(r"^[0-9a-f]{32}$", done.stdout, re.MULTILINE)
    with use("http"):
        history = mlflow.MlflowClient().get_metric_history(run_id, "nodes")
        tags = mlflow.get_run(run_id).data.tags
    assert len(history) == 2
    assert {value for name, value in tags.items() if name.startswith("has_secret_")} == {"False"}
