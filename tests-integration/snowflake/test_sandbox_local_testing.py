"""The light mode: Snowpark's local testing with the same translators, gateway and MLflow server."""

from mlflow import MlflowClient
from snowflake.snowpark import Session

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._snowflake import BASES, Snowflake
from mlflow_connections_snowflake import BridgeConfig, Client, read, statements


def _setup() -> BridgeConfig:
    keys = ("experiment_get_by_name", "run_create", "run_update", "run_log_metric")
    return read(
        {
            "mlflow": {
                "experiment_name": "local-testing",
                "functions": {
                    key: f"demo.demo.mlflow_{key}" for key in (*keys, "run_log_parameter")
                },
                "gateway": {
                    "provider": "aws",
                    "url": BASES["aws"],
                    "role_arn": "arn:aws:iam::123456789012:role/mlflow",
                },
            }
        }
    )


def test_the_client_logs_without_sql(snowflake: Snowflake, mlflow_server: MlflowServer) -> None:
    """The generated functions, registered as UDFs, create a run that MLflow's own client reads back."""
    setup = _setup()
    snowflake.execute(statement.sql for statement in statements(setup))
    snowflake.trust("MLFLOW_API")
    session = Session.builder.config("local_testing", True).create()
    try:
        names = snowflake.register_locally(session)
        assert '"DEMO"."DEMO"."MLFLOW_RUN_CREATE"' in names
        client = Client(session, setup.functions)
        experiment = client.ensure_experiment("local-testing")
        run_id = client.create_run(experiment)["info"]["run_id"]
        client.log_metric(run_id, "m", 0.5, step=3)
        client.log_parameter(run_id, "p", "it's $")
        client.update_run(run_id, "FINISHED")
    finally:
        session.close()
    run = MlflowClient(mlflow_server.url).get_run(run_id)
    assert run.data.metrics == {"m": 0.5}
    assert run.data.params == {"p": "it's $"}
    assert run.info.status == "FINISHED"
