"""Two servers with different credentials: each sees only its own, even in a delivery hours later."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mlflow_connections import use
from mlflow_connections_events.testing import describe, differences
from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._http import ProtectedMlflow

pytestmark = pytest.mark.usefixtures("warm_path")
TRAIN = """
import sys
import mlflow
import mlflow_connections

with mlflow_connections.use("mirror", {}, {"primary": sys.argv[2], "copy": "new"}):
    mlflow.set_experiment(sys.argv[1])
    with mlflow.start_run(run_name="trained"):
        mlflow.log_param("alpha", 1)
        mlflow.log_metric("loss", 0.5, step=1)
        mlflow.log_text("hello", "a.txt")
"""


class Protected(NamedTuple):
    """Protected servers, each with a connection of its name; two stand in front of one MLflow."""

    old: ProtectedMlflow
    older: ProtectedMlflow
    new: ProtectedMlflow


@pytest.fixture
def servers(
    mlflow_server: MlflowServer,
    other_server: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Protected]:
    """Servers behind separate issuers, as connections in a file, with secrets in variables."""
    urls = (other_server.url, other_server.url, mlflow_server.url)
    fronts = (ProtectedMlflow(url, tmp_path / str(number)) for number, url in enumerate(urls))
    servers = Protected(*fronts)
    lines = []
    for name, stand_in in servers._asdict().items():
        stand_in.start()
        monkeypatch.setenv(f"{name.upper()}_SECRET", stand_in.client.client_secret)
        lines += [
            f"[connections.{name}]",
            'connection = "http"',
            f'url = "{stand_in.url}"',
            f'issuer = "{stand_in.issuer}"',
            f'audience = "{stand_in.client.audience}"',
            f'client_id = "{stand_in.client.client_id}"',
            f'credentials = {{ client_secret = {{ env = "{name.upper()}_SECRET" }} }}',
        ]
    file = tmp_path / "connections.toml"
    file.write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("MLFLOW_CONNECTIONS_FILE", str(file))
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "outbox"))
    monkeypatch.chdir(tmp_path)
    yield servers
    for stand_in in servers:
        stand_in.close()


def command(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of this environment."""
    return subprocess.run(
        ["python", *words], capture_output=True, text=True, check=False, env=dict(os.environ)
    )


def train(experiment: str, primary: str = "old") -> None:
    """Train in a separate process, which has ended when this returns."""
    done = command("-c", TRAIN, experiment, primary)
    assert done.returncode == 0, done.stderr


def assert_equal(experiment: str) -> None:
    """Compare the two servers, each with its own credentials."""
    found = []
    for name in ("old", "new"):
        with use(name) as endpoint:
            found.append(describe(endpoint.tracking_uri, experiments=[experiment]))
    assert differences(*found) == []
    assert len(found[1]["runs"]) == 1
    assert found[1]["runs"][f"{experiment}/trained"]["files"] == {"a.txt": "hello"}


def test_the_command_sends_each_server_its_own_token(servers: Protected, tmp_path: Path) -> None:
    """Runs move between servers of two issuers, and neither receives a token that it does not know."""
    experiment = f"identities {tmp_path.name}"
    with use("old"):
        log_a_run(experiment)
    done = command("-m", "mlflow_connections", "mirror", experiment, "--from", "old", "--to", "new")
    assert done.returncode == 0, done.stderr
    assert_equal(experiment)
    for stand_in in servers:
        assert stand_in.issued >= (stand_in is not servers.older)
        assert stand_in.journal.counts().get(401, 0) == 0


def log_a_run(experiment: str) -> None:
    """Log what `TRAIN` logs."""
    import mlflow

    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name="trained"):
        mlflow.log_param("alpha", 1)
        mlflow.log_text("hello", "a.txt")


def test_a_later_delivery_fetches_its_own_tokens(servers: Protected, tmp_path: Path) -> None:
    """Training ends while the copy is down; hours later another process signs in to both servers and delivers."""
    experiment = f"later {tmp_path.name}"
    servers.new.close()
    train(experiment)
    servers.old.revoke()
    servers.new.start()
    servers.new.revoke()
    issued = servers.old.issued
    done = command("-m", "mlflow_connections", "outbox", "ship")
    assert done.returncode == 0, done.stdout + done.stderr
    assert servers.old.issued > issued
    assert_equal(experiment)
    for stand_in in servers:
        assert stand_in.journal.counts().get(401, 0) == 0
    for file in (tmp_path / "outbox").rglob("*"):
        if file.is_file():
            content = file.read_text(errors="ignore")
            assert servers.old.client.client_secret not in content
            assert servers.new.client.client_secret not in content


@pytest.mark.slow
def test_two_primaries_with_one_copy_are_kept_apart(
    servers: Protected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later process fetches the files of each primary from that primary, with its own token."""
    experiments = {name: f"{name} {tmp_path.name}" for name in ("old", "older")}
    servers.new.close()
    for name, experiment in experiments.items():
        train(experiment, name)
    # On another day: the shippers of the training end with its folder.
    shutil.copytree(tmp_path / "outbox", tmp_path / "later")
    shutil.rmtree(tmp_path / "outbox")
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "later"))
    servers.new.start()
    shown = command("-m", "mlflow_connections", "outbox", "status").stdout.splitlines()
    assert [line for line in shown if line.startswith("mirror")] == sorted(
        f"mirror of {each.url} at {servers.new.url}" for each in (servers.old, servers.older)
    )
    for stand_in in servers:
        stand_in.revoke()
        stand_in.journal.clear()
    ship = ("-m", "mlflow_connections", "outbox", "ship", "--destination")
    done = command(*ship, servers.new.url)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, stand_in in (("old", servers.old), ("older", servers.older)):
        files = {each.path for each in stand_in.journal.requests("/mlflow-artifacts/artifacts/")}
        assert len(files) == 1, files
        assert_equal(experiments[name])
    for stand_in in servers:
        assert stand_in.journal.counts().get(401, 0) == 0
