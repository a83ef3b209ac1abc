"""1,000 calls of log_metric in a Snowflake procedure: one SQL statement each, the store's batches, HTTPS.

All go through the same stand-in of Snowflake, in front of the same real MLflow server, in one run.
The relevant number is that of the statements, which is the same on a real account; the times are
this machine's.
"""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from _ratio import Row, table

METRICS = 1000
FEWER = 20

PROCEDURE = """
import time

import mlflow
import mlflow_connections


def log(session, uri, experiment, metrics):
    if uri.startswith("https:"):
        mlflow_connections.use("snowflake", options={"mode": "external_access", "url": uri})
    else:
        mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment)
    begun = time.perf_counter()
    with mlflow.start_run() as run:
        for step in range(metrics):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
    return f"{run.info.run_id} {time.perf_counter() - begun}"
"""


def main() -> None:
    """Measure, and print the table."""
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="1")
    from mlflow_connections_sandbox import MlflowServer

    with (
        TemporaryDirectory() as folder,
        MlflowServer(Path(folder) / "mlflow") as server,
    ):
        print(table(_measure(server, Path(folder))))


def _measure(server: Any, folder: Path) -> list[Row]:
    import mlflow
    from snowflake.snowpark import Session

    from mlflow_connections_sandbox._snowflake import BASES, MLFLOW_URL, Snowflake
    from mlflow_connections_snowflake import Client, apply, read, statements, store

    account = Snowflake(server.url, folder / "account", server.folder / "artifacts")
    account.start()
    os.environ["MLFLOW_SNOWFLAKE_TOKEN"] = account.public.token
    setup = read(_config(BASES["aws"], MLFLOW_URL))
    session = Session.builder.configs(account.connection()).create()
    apply(session, statements(setup))
    account.trust("MLFLOW_API")
    session.use_role("ACCOUNTADMIN")

    mlflow.set_tracking_uri(store.Bridge.of(setup).uri())
    experiment_id = mlflow.set_experiment("bench").experiment_id
    client = Client(session, setup.functions)

    account.statements.clear()
    begun = time.perf_counter()
    run_id = str(client.create_run(experiment_id)["info"]["run_id"])
    for step in range(METRICS):
        client.log_metric(run_id, "loss", 1 / (step + 1), step=step)
    client.update_run(run_id, "FINISHED")
    singly = (len(account.statements.matching()), time.perf_counter() - begun, run_id)

    session.use_role("ACCOUNTADMIN")
    _create_procedures(session, setup)
    account.statements.clear()
    uri = store.Bridge.of(setup).uri()
    batched_id, batched_seconds = _logged(session, "BATCHED", uri)
    # The CALL itself and the session's own first statements are not calls to MLflow.
    batched = len(account.statements.matching('"MLFLOW_'))
    account.statements.clear()
    direct_id, direct_seconds = _logged(session, "DIRECT", MLFLOW_URL)
    direct = len(account.statements.matching('"MLFLOW_'))

    _assert_alike(server.url, singly[2], batched_id, direct_id)
    session.close()
    account.close()
    what = f"{METRICS} log_metric in a run"
    return [
        Row(
            f"{what}, external functions: statements",
            singly[0],
            batched,
            "statements",
            f"at least {FEWER} times fewer",
            singly[0] >= FEWER * batched,
        ),
        Row(f"{what}, external functions: time", singly[1], batched_seconds, "s"),
        Row(
            f"{what}, external access: statements",
            singly[0],
            direct,
            "statements",
            "none",
            not direct,
        ),
        Row(f"{what}, external access: time", singly[1], direct_seconds, "s"),
    ]


def _create_procedures(session: Any, setup: Any) -> None:
    from mlflow_connections_snowflake._sql import procedure_clauses

    access = setup.external_access
    direct = procedure_clauses([access.integration], {"mlflow_token": access.secret})
    for name, clause in (("BATCHED", ""), ("DIRECT", " ".join(direct))):
        session.sql(
            f"CREATE OR REPLACE PROCEDURE DEMO.DEMO.{name}(URI VARCHAR, NAME VARCHAR, METRICS NUMBER) "
            "RETURNS VARCHAR LANGUAGE PYTHON RUNTIME_VERSION = '3.11' "
            "ARTIFACT_REPOSITORY = snowflake.snowpark.pypi_shared_repository "
            "PACKAGES = ('snowflake-snowpark-python', 'mlflow', 'mlflow-connections-snowflake') "
            f"HANDLER = 'log' {clause} AS $${PROCEDURE}$$"
        ).collect()


def _logged(session: Any, procedure: str, uri: str) -> tuple[str, float]:
    """Call a procedure; return its run and the duration of its logging, without its start."""
    run_id, seconds = session.call(f"DEMO.DEMO.{procedure}", uri, "bench", METRICS).split()
    return run_id, float(seconds)


def _assert_alike(url: str, *run_ids: str) -> None:
    """Check that no batch lost a value or its step, which would not be a gain."""
    from mlflow import MlflowClient

    expected = [(step, 1 / (step + 1)) for step in range(METRICS)]
    for run_id in run_ids:
        values = MlflowClient(url).get_metric_history(run_id, "loss")
        assert [(metric.step, metric.value) for metric in values] == expected


def _config(url: str, mlflow_url: str) -> dict[str, Any]:
    role = "arn:aws:iam::123456789012:role/mlflow"
    keys = ("experiment_get_by_name", "run_create", "run_update", "run_log_metric")
    return {
        "mlflow": {
            "experiment_name": "bench",
            "functions": {key: f"demo.demo.mlflow_{key}" for key in (*keys, "run_log_parameter")},
            "gateway": {"provider": "aws", "url": url, "role_arn": role},
            "external_access": {"url": mlflow_url, "token_from_env": "MLFLOW_SNOWFLAKE_TOKEN"},
        }
    }


if __name__ == "__main__":
    main()
