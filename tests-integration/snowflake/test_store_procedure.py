"""Real Python procedures, whose processes reach only the account, with plain fluent MLflow."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from snowflake.snowpark.exceptions import SnowparkSQLException

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._snowflake import MLFLOW_URL
from mlflow_connections_snowflake import (
    BridgeConfig,
    apply,
    check,
    clean,
    read,
    statements,
    store,
    ways,
)
from mlflow_connections_snowflake._sql import procedure_clauses

CLAUSES = """
RETURNS VARCHAR LANGUAGE PYTHON RUNTIME_VERSION = '3.11'
PACKAGES = ('snowflake-snowpark-python', 'mlflow') HANDLER = 'train'
"""

TRAIN = """
import urllib.request

import mlflow


def train(session, uri, url, fails):
    # Inside, so that it is pickled whole: nobody else can import the handler's module.
    class Doubling(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input * 2

    try:
        urllib.request.urlopen(url, timeout=10)
        return "MLflow is in reach: this proves nothing"
    except OSError:
        pass
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("procedures")
    with mlflow.start_run(tags={"fails": fails}):
        mlflow.log_param("rows", 3)
        for step in range(1500):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        if fails == "yes":
            raise ValueError("the node is dead")
        mlflow.log_dict({"a": 1}, "notes/a.json")
        made = mlflow.pyfunc.log_model(
            "model", python_model=Doubling(), pip_requirements=["mlflow"]
        )
        mlflow.pyfunc.load_model(made.model_uri)
    return mlflow.last_active_run().info.run_id
"""

NOTE = """
import mlflow


def train(session, uri):
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("notes")
    with mlflow.start_run() as run:
        mlflow.log_text("b", "a.txt")
    return mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/a.txt")
"""


def create(bridge: Any, name: str, arguments: str, body: str, clauses: str = "") -> None:
    """Create a procedure as the functions' caller, who may create one in this schema."""
    bridge.session.use_role("ACCOUNTADMIN")
    bridge.session.sql(
        f"CREATE OR REPLACE PROCEDURE DEMO.DEMO.{name}({arguments}) {CLAUSES} {clauses} "
        f"AS $${body}$$"
    ).collect()


def test_without_a_network(bridge: Any, mlflow_server: MlflowServer) -> None:
    """A procedure that cannot reach MLflow logs a run with its model, which is then complete in MLflow."""
    import mlflow

    create(bridge, "TRAIN", "URI VARCHAR, URL VARCHAR, FAILS VARCHAR", TRAIN)
    uri = store.Bridge.of(bridge.setup).uri()
    bridge.stand_in.statements.clear()
    run_id = bridge.session.call("DEMO.DEMO.TRAIN", uri, mlflow_server.url, "no")
    read = bridge.mlflow.get_run(run_id)
    assert read.info.status == "FINISHED"
    assert read.data.params == {"rows": "3"}
    values = bridge.mlflow.get_metric_history(run_id, "loss")
    assert [metric.step for metric in values] == list(range(1500))
    mlflow.set_tracking_uri(mlflow_server.url)
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/notes/a.json") == {"a": 1}
    assert mlflow.pyfunc.load_model(f"runs:/{run_id}/model").predict([[1.0]]) is not None
    assert len(bridge.stand_in.statements.matching('"MLFLOW_')) < 60


def test_files_that_cannot_be_removed_are_cleaned_later(bridge: Any) -> None:
    """An owner's-rights procedure leaves files on the stage, which the command removes."""
    session = bridge.session
    session.use_role("ACCOUNTADMIN")
    clean(session, bridge.setup, timedelta(0))
    create(bridge, "NOTE", "URI VARCHAR", NOTE)
    assert session.call("DEMO.DEMO.NOTE", store.Bridge.of(bridge.setup).uri()) == "b"
    assert clean(session, bridge.setup, timedelta(hours=1)) == 0, "a transfer may be going on"
    assert clean(session, bridge.setup, timedelta(0)) >= 1
    assert session.file.list(f"@{bridge.setup.storage.internal_stage}/") == []


def test_an_account_that_refuses_to_copy_files(bridge: Any) -> None:
    """An owner's-rights procedure that may not copy files raises an error that states it; caller's rights work."""
    create(bridge, "NOTE", "URI VARCHAR", NOTE)
    create(bridge, "NOTE_AS_CALLER", "URI VARCHAR", NOTE, "EXECUTE AS CALLER")
    uri = store.Bridge.of(bridge.setup).uri()
    bridge.stand_in.assumptions.copy_files_in_owners_rights = False
    try:
        with pytest.raises(SnowparkSQLException, match=r"EXECUTE AS CALLER.*external_access"):
            bridge.session.call("DEMO.DEMO.NOTE", uri)
        assert bridge.session.call("DEMO.DEMO.NOTE_AS_CALLER", uri) == "b"
    finally:
        bridge.stand_in.assumptions.copy_files_in_owners_rights = True


def test_a_procedure_that_fails(bridge: Any, mlflow_server: MlflowServer) -> None:
    """The caller gets the handler's error, and MLflow a FAILED run with all logged data."""
    create(bridge, "TRAIN", "URI VARCHAR, URL VARCHAR, FAILS VARCHAR", TRAIN)
    uri = store.Bridge.of(bridge.setup).uri()
    with pytest.raises(SnowparkSQLException, match="the node is dead"):
        bridge.session.call("DEMO.DEMO.TRAIN", uri, mlflow_server.url, "yes")
    experiment = bridge.mlflow.get_experiment_by_name("procedures")
    [run] = bridge.mlflow.search_runs([experiment.experiment_id], "tags.fails = 'yes'")
    assert run.info.status == "FAILED"
    assert len(bridge.mlflow.get_metric_history(run.info.run_id, "loss")) == 1500


EXTERNAL = """
import mlflow
import mlflow_connections


def train(session):
    options = {"mode": "external_access", "url": "https://mlflow.sandbox.example"}
    mlflow_connections.use("snowflake", options=options)
    mlflow.set_experiment("external")
    with mlflow.start_run() as run:
        mlflow.log_metric("m", 1)
        mlflow.log_text("x", "x.txt")
    return run.info.run_id + " " + mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/x.txt")


if __name__ == "__main__":
    print(train(None))
"""

INSIDE = """
import mlflow

mlflow.set_tracking_uri(URI)
mlflow.set_experiment("external")
with mlflow.start_run() as run:
    mlflow.log_metric("m", 1)
    mlflow.log_text("x", "x.txt")
print(run.info.run_id, mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/x.txt"))
"""


@pytest.fixture
def direct(bridge: Any, monkeypatch: pytest.MonkeyPatch) -> BridgeConfig:
    """External access in addition to the bridge, set up only by the generated SQL."""
    section = yaml.safe_load(bridge.config.read_text())["snowflake"]["mlflow"]
    access = {"url": MLFLOW_URL, "token_from_env": "MLFLOW_SNOWFLAKE_TOKEN"}
    config = read({"mlflow": {**section, "external_access": access}})
    monkeypatch.setenv("MLFLOW_SNOWFLAKE_TOKEN", bridge.stand_in.public.token)
    apply(bridge.session, statements(config))
    bridge.session.use_role("ACCOUNTADMIN")
    return config


def clauses_of(config: BridgeConfig) -> str:
    """Return the clauses with which a procedure reaches MLflow."""
    access = config.external_access
    assert access is not None
    return " ".join(procedure_clauses([access.integration], {"mlflow_token": access.secret}))


def arrived(bridge: Any, shown: str) -> None:
    """Read a run and its artifact back from MLflow."""
    run_id, text = shown.split()
    assert text == "x"
    read = bridge.mlflow.get_run(run_id)
    assert read.data.metrics == {"m": 1.0}
    assert read.info.status == "FINISHED"
    # MLflow 2 looks for a server's artifacts at the current URI, whatever the client's URI is.
    mlflow.set_tracking_uri(bridge.mlflow.tracking_uri)
    assert [i.path for i in bridge.mlflow.list_artifacts(run_id)] == ["x.txt"]


def test_external_access(bridge: Any, direct: BridgeConfig) -> None:
    """With the generated rule, secret and integration the same code uses HTTPS to MLflow itself."""
    session = bridge.session
    assert [finding for finding in check(session, direct) if not finding.ok] == []
    ready = {way.name: way.ready for way in ways(session, direct)}
    assert ready["external access"]
    bridge.stand_in.public.journal.clear()
    create(bridge, "EXTERNAL", "", EXTERNAL, clauses_of(direct))
    arrived(bridge, session.call("DEMO.DEMO.EXTERNAL"))
    asked = bridge.stand_in.public.journal.requests("/mlflow-artifacts/artifacts/")
    assert {entry.method for entry in asked} == {"GET", "PUT"}
    ran = "".join(one.sql for one in bridge.stand_in.statements.matching("SECRET"))
    assert bridge.stand_in.public.token not in ran


def test_external_access_with_a_wrong_token(bridge: Any, direct: BridgeConfig) -> None:
    """MLflow's refusal reaches the caller, and the token does not."""
    session = bridge.session
    session.sql("ALTER SECRET DEMO.DEMO.MLFLOW_TOKEN SET SECRET_STRING = 'not-it'").collect()
    create(bridge, "EXTERNAL", "", EXTERNAL, clauses_of(direct))
    with pytest.raises(SnowparkSQLException, match="UNAUTHENTICATED") as refused:
        session.call("DEMO.DEMO.EXTERNAL")
    assert "not-it" not in str(refused.value)


@pytest.mark.parametrize("is_direct", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_in_a_container(bridge: Any, direct: BridgeConfig, tmp_path: Path, is_direct: bool) -> None:
    """A service, an ML Job or a notebook in a container reaches MLflow both ways, with its own token."""
    for sql in (
        "CREATE ROLE IF NOT EXISTS SERVICE",
        "GRANT ROLE SERVICE TO USER SANDBOX",
        "GRANT ROLE MLFLOW_CALLER TO ROLE SERVICE",
        "GRANT USAGE ON WAREHOUSE COMPUTE_WH TO ROLE SERVICE",
        "GRANT USAGE ON INTEGRATION MLFLOW_ACCESS TO ROLE SERVICE",
        "GRANT READ ON SECRET DEMO.DEMO.MLFLOW_TOKEN TO ROLE SERVICE",
    ):
        bridge.session.sql(sql).collect()
    given = (
        {
            "integrations": ["MLFLOW_ACCESS"],
            "secrets": {"mlflow_token": "DEMO.DEMO.MLFLOW_TOKEN"},
        }
        if is_direct
        else {}
    )
    environment = bridge.stand_in.container(tmp_path / "container", "SERVICE", **given)
    uri = store.Bridge.of(bridge.setup).uri()
    code = EXTERNAL if is_direct else f"URI = {uri!r}\n{INSIDE}"
    (tmp_path / "job.py").write_text(code)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "job.py")],
        env={**environment, "SNOWFLAKE_WAREHOUSE": "COMPUTE_WH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    arrived(bridge, done.stdout.strip().splitlines()[-1])


STREAMLIT = """
from streamlit.testing.v1 import AppTest

def train(session):
    app = AppTest.from_string(APP, default_timeout=120).run()
    if app.exception:
        raise RuntimeError(app.exception[0].value)
    return app.markdown[0].value
"""

APP = """
import mlflow
import streamlit as st

START
mlflow.set_experiment("external")
with mlflow.start_run() as run:
    mlflow.log_metric("m", 1)
    mlflow.log_text("x", "x.txt")
st.write(run.info.run_id + " " + mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/x.txt"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_direct", [True, False])
def test_in_streamlit(bridge: Any, direct: BridgeConfig, is_direct: bool) -> None:
    """An app on a warehouse, which has an owner's-rights procedure's session, logs to MLflow both ways."""
    pytest.importorskip("streamlit")
    options = {"mode": "external_access", "url": MLFLOW_URL}
    start = (
        f"import mlflow_connections\nmlflow_connections.use('snowflake', options={options!r})"
        if is_direct
        else f"mlflow.set_tracking_uri({store.Bridge.of(bridge.setup).uri()!r})"
    )
    body = f"APP = {APP.replace('START', start)!r}\n{STREAMLIT}"
    clauses = clauses_of(direct) if is_direct else ""
    create(bridge, "STREAMLIT", "", body, clauses)
    arrived(bridge, bridge.session.call("DEMO.DEMO.STREAMLIT"))
