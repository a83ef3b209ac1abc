"""The store in Snowpark's local testing: without SQL, with the same translators, gateway and MLflow."""

import mlflow
from mlflow import MlflowClient
from snowflake.snowpark import Session

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._snowflake import BASES, Snowflake
from mlflow_connections_snowflake import read, statements, store

KEYS = ("experiment_get_by_name", "run_create", "run_update", "run_log_metric", "run_log_parameter")


def test_fluent_mlflow_without_sql(snowflake: Snowflake, mlflow_server: MlflowServer) -> None:
    """Unit tests of a user's procedure can log as the procedure does, without an account."""
    role = "arn:aws:iam::123456789012:role/mlflow"
    section = {
        "experiment_name": "local",
        "functions": {key: f"demo.demo.mlflow_{key}" for key in KEYS},
        "gateway": {"provider": "aws", "url": BASES["aws"], "role_arn": role},
    }
    setup = read({"mlflow": section})
    snowflake.execute(statement.sql for statement in statements(setup))
    snowflake.trust("MLFLOW_API")
    session = Session.builder.config("local_testing", True).create()
    try:
        snowflake.register_locally(session)
        mlflow.set_tracking_uri(store.Bridge.of(setup).uri())
        mlflow.set_experiment("local")
        with mlflow.start_run() as run:
            mlflow.log_params({"p": "it's"})
            for step in range(300):
                mlflow.log_metric("m", step, step=step)
            assert mlflow.get_run(run.info.run_id).data.metrics == {"m": 299.0}
    finally:
        session.close()
    client = MlflowClient(mlflow_server.url)
    assert client.get_run(run.info.run_id).data.params == {"p": "it's"}
    assert len(client.get_metric_history(run.info.run_id, "m")) == 300
    assert client.get_run(run.info.run_id).info.status == "FINISHED"
