"""Real Python procedures, whose processes reach nothing but the account, with plain fluent MLflow."""

from datetime import timedelta
from typing import Any

import mlflow
import pytest
from snowflake.snowpark.exceptions import SnowparkSQLException

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_snowflake import clean, store

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
    """Create a procedure as the functions' caller, who may do so in this schema."""
    bridge.session.use_role("ACCOUNTADMIN")
    bridge.session.sql(
        f"CREATE OR REPLACE PROCEDURE DEMO.DEMO.{name}({arguments}) {CLAUSES} {clauses} "
        f"AS $${body}$$"
    ).collect()


def test_without_a_network(bridge: Any, mlflow_server: MlflowServer) -> None:
    """A procedure that cannot reach MLflow logs a run with its model, which MLflow then has whole."""
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


def test_files_that_may_not_be_removed_are_cleaned_later(bridge: Any) -> None:
    """An owner's-rights procedure leaves what passed through the stage, for the command to remove."""
    session = bridge.session
    session.use_role("ACCOUNTADMIN")
    clean(session, bridge.setup, timedelta(0))
    create(bridge, "NOTE", "URI VARCHAR", NOTE)
    assert session.call("DEMO.DEMO.NOTE", store.Bridge.of(bridge.setup).uri()) == "b"
    assert clean(session, bridge.setup, timedelta(hours=1)) == 0, "a transfer may be going on"
    assert clean(session, bridge.setup, timedelta(0)) >= 1
    assert session.file.list(f"@{bridge.setup.storage.internal_stage}/") == []


def test_an_account_that_refuses_to_copy_files(bridge: Any) -> None:
    """Where an owner's-rights procedure may not copy files, the error says so, and caller's rights do."""
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
    """The caller sees the handler's error, and MLflow a FAILED run with all that was logged."""
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


def train(session, url):
    options = {"mode": "external_access", "url": url}
    endpoint = mlflow_connections.use("snowflake", options=options).endpoint
    mlflow.set_experiment("external")
    with mlflow.start_run() as run:
        mlflow.log_metric("m", 1)
        mlflow.log_text("x", "x.txt")
    return run.info.run_id + " " + endpoint.environment["MLFLOW_TRACKING_TOKEN"]
"""


def test_external_access(bridge: Any, mlflow_server: MlflowServer) -> None:
    """With the rule, the secret and one option the same code speaks to MLflow itself."""
    place = mlflow_server.url.removeprefix("http://")
    session = bridge.session
    session.use_role("ACCOUNTADMIN")
    # The generator writes https only, and the sandbox's MLflow has no certificate.
    for sql in f"""
        CREATE OR REPLACE NETWORK RULE DEMO.DEMO.R MODE = EGRESS TYPE = HOST_PORT
            VALUE_LIST = ('{place}');
        CREATE OR REPLACE SECRET DEMO.DEMO.T TYPE = GENERIC_STRING SECRET_STRING = 't0ken';
        CREATE OR REPLACE EXTERNAL ACCESS INTEGRATION A ALLOWED_NETWORK_RULES = (DEMO.DEMO.R)
            ALLOWED_AUTHENTICATION_SECRETS = (DEMO.DEMO.T) ENABLED = TRUE
    """.split(";"):
        session.sql(sql).collect()
    clauses = "EXTERNAL_ACCESS_INTEGRATIONS = (A) SECRETS = ('mlflow_token' = DEMO.DEMO.T)"
    create(bridge, "EXTERNAL", "URL VARCHAR", EXTERNAL, clauses)
    run_id, token = session.call("DEMO.DEMO.EXTERNAL", mlflow_server.url).split()
    assert token == "t0ken"
    assert bridge.mlflow.get_run(run_id).data.metrics == {"m": 1.0}
    # MLflow 2 looks for a server's artifacts at the current URI, whatever the client's is.
    mlflow.set_tracking_uri(bridge.mlflow.tracking_uri)
    assert [i.path for i in bridge.mlflow.list_artifacts(run_id)] == ["x.txt"]
