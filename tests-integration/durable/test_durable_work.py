"""Ranks, models, machines without a network: with the server down, and afterwards as if it had been up."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import mlflow
import pytest
from trainings import MEASURED, OF_MLFLOW, TIMINGS

from mlflow_connections_events.testing import differences
from mlflow_connections_sandbox import MlflowServer


@pytest.mark.slow
def test_several_ranks_log_to_one_waiting_run(
    proxy: Any, program: Any, described: Any, mlflow_server: MlflowServer
) -> None:
    """Children and resumed runs know a provisional ID, before and after it has a real one."""
    proxy.mode = "down"
    done = program.run(f"durable+{proxy.url}", "ranks", "ranks")
    provisional = done.stdout.split()[-1]
    proxy.mode = "up"
    program.ship()
    (row,) = json.loads(program.outbox("runs", "--output", "json"))
    assert row["id"] == provisional != row["server_id"]
    assert row["url"].endswith(f"/runs/{row['server_id']}")
    resumed = program.run(f"durable+{proxy.url}", "ranks", "resume", provisional)
    assert "has lost the run" not in resumed.stderr
    program.ship()
    (run,) = described(mlflow_server.url, "ranks")["runs"].values()
    text = json.dumps(run)
    assert [f"loss_{rank}" in text for rank in range(3)] == [True] * 3
    assert [f"rank_{rank}.txt" in text for rank in range(3)] == [True] * 3
    assert "resumed_elsewhere" in text


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["down", "up"])
def test_a_model_is_logged_registered_and_loaded(
    mode: str,
    proxy: Any,
    program: Any,
    described: Any,
    put_aside: Any,
    mlflow_server: MlflowServer,
) -> None:
    """A model, its version, tags and alias are finally on the server, whenever it responded."""
    name, registered = f"model {mode}", f"wine-{mode}"
    program.run(mlflow_server.url, "models", name, registered)
    expected = described(mlflow_server.url, name, load=True)
    put_aside(mlflow_server.url, name, registered)
    proxy.mode = mode
    program.run(f"durable+{proxy.url}", "models", name, registered)
    proxy.mode = "up"
    report = program.ship()
    assert (report["waiting"], report["rejected"]) == (0, 0)
    found = described(mlflow_server.url, name, load=True)
    assert differences(expected, found, ignore=OF_MLFLOW) == []
    assert registered in found["registered"]


def test_offline_runs_are_shipped_by_two_machines(
    program: Any, described: Any, mlflow_server: MlflowServer, outbox: Path, tmp_path: Path
) -> None:
    """No server is called; later two copies of the folder produce each run once."""
    name = "offline"
    done = program.run("durable://offline", "train", name)
    assert "outbox ship --destination offline --to" in done.stderr
    assert "View run" not in done.stdout
    copy = tmp_path / "copied"
    shutil.copytree(outbox, copy)
    program.outbox("ship", "--timeout", "5", code=1)
    report = program.ship("--to", mlflow_server.url)
    assert (report["waiting"], report["rejected"]) == (0, 0)
    first = described(mlflow_server.url, name)
    assert len(first["runs"]) == 4
    client = mlflow.MlflowClient(mlflow_server.url)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    rows = json.loads(program.outbox("runs", "--output", "json"))
    assert {row["url"] for row in rows} == {
        f"{mlflow_server.url}/#/experiments/{experiment.experiment_id}/runs/{run.info.run_id}"
        for run in client.search_runs(
            [experiment.experiment_id], run_view_type=mlflow.entities.ViewType.ALL
        )
    }
    other = {"MLFLOW_CONNECTIONS_OUTBOX_DIR": str(copy)}
    report = program.ship("--to", mlflow_server.url, "--other-machines", **other)
    assert (report["waiting"], report["rejected"]) == (0, 0)
    assert differences(first, described(mlflow_server.url, name)) == []


@pytest.mark.slow
def test_waiting_runs_can_be_viewed_and_stay(program: Any, tmp_path: Path, described: Any) -> None:
    """A local store shows all of them, with histories and files, and nothing is taken out of the outbox."""
    program.run("durable://offline", "train", "viewed")
    before = program.outbox("status", code=1)
    program.outbox("view", "--store", str(tmp_path / "view"))
    assert program.outbox("status", code=1) == before
    found = described(f"sqlite:///{tmp_path / 'view' / 'mlflow.db'}", "viewed")
    assert len(found["runs"]) == 4
    assert "hello.txt" in json.dumps(found["runs"]["<experiment>/parent"])
    with sqlite3.connect(tmp_path / "view" / "mlflow.db") as database:
        (points,) = database.execute("select count(*) from metrics where key = 'loss'").fetchone()
    assert points == 61


@pytest.mark.slow
def test_autologging_arrives_complete(
    proxy: Any, program: Any, described: Any, put_aside: Any, mlflow_server: MlflowServer
) -> None:
    """Scikit-learn's grid search arrives with its child runs and models, with the server down as with plain MLflow."""
    pytest.importorskip("sklearn")
    program.run(mlflow_server.url, "models", "autolog", "autolog")
    expected = described(mlflow_server.url, "autolog", load=True)
    put_aside(mlflow_server.url, "autolog")
    proxy.mode = "down"
    program.run(f"durable+{proxy.url}", "models", "autolog", "autolog")
    proxy.mode = "up"
    report = program.ship()
    assert (report["waiting"], report["rejected"]) == (0, 0)
    found = described(mlflow_server.url, "autolog", load=True)
    assert differences(expected, found, ignore=[*OF_MLFLOW, *TIMINGS]) == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["down", "up"])
def test_traces_arrive_complete(
    mode: str,
    proxy: Any,
    program: Any,
    described: Any,
    put_aside: Any,
    mlflow_server: MlflowServer,
) -> None:
    """Spans, tags, assessments and the links to runs arrive, with the server down and up."""
    if mlflow.__version__.startswith("2."):
        pytest.skip("servers of MLflow 2 make the IDs of traces, so they need the server")
    name = f"traced {mode}"
    program.run(mlflow_server.url, "traced", name)
    expected = described(mlflow_server.url, name)
    put_aside(mlflow_server.url, name)
    proxy.mode = mode
    program.run(f"durable+{proxy.url}", "traced", name)
    proxy.mode = "up"
    report = program.ship()
    assert (report["waiting"], report["rejected"]) == (0, 0)
    found = described(mlflow_server.url, name)
    assert len(found["traces"]) == 2
    assert differences(expected, found, ignore=MEASURED) == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["hang", "busy", "login", "forbidden"])
def test_any_failure_of_the_server_only_delays_delivery(
    mode: str, proxy: Any, program: Any, described: Any, mlflow_server: MlflowServer
) -> None:
    """A hanging server, 503, a login page or wrong credentials: training continues and nothing is lost."""
    proxy.mode = mode
    done = program.run(f"durable+{proxy.url}", "train", f"mode {mode}")
    assert float(done.stdout.split()[-1]) < 10
    proxy.mode = "up"
    report = program.ship()
    assert (report["waiting"], report["rejected"]) == (0, 0)
    assert len(described(mlflow_server.url, f"mode {mode}")["runs"]) == 4
