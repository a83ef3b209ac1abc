"""1,000 metrics logged in a session of Snowflake: one SQL statement each, against the store's batches.

Both go through the same stand-in of Snowflake, before the same real MLflow server, in one run. What
counts is the number of statements, which is the same on a real account; the times are this machine's.
"""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from _ratio import Row, table

METRICS = 1000
FEWER = 20


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

    from mlflow_connections_sandbox._snowflake import BASES, Snowflake
    from mlflow_connections_snowflake import Client, apply, read, statements, store

    account = Snowflake(server.url, folder / "account", server.folder / "artifacts")
    account.start()
    setup = read(_config(BASES["aws"]))
    session = Session.builder.configs(account.connection()).create()
    apply(session, statements(setup))
    account.trust("MLFLOW_API")
    session.use_role("MLFLOW_CALLER")

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

    account.statements.clear()
    begun = time.perf_counter()
    with mlflow.start_run() as run:
        for step in range(METRICS):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
    batched = (len(account.statements.matching()), time.perf_counter() - begun, run.info.run_id)

    _assert_alike(server.url, singly[2], batched[2])
    session.close()
    account.close()
    what = f"{METRICS} log_metric in a run"
    return [
        Row(
            f"{what}: statements",
            singly[0],
            batched[0],
            "statements",
            f"at least {FEWER} times fewer",
            singly[0] >= FEWER * batched[0],
        ),
        Row(f"{what}: time", singly[1], batched[1], "s"),
    ]


def _assert_alike(url: str, *run_ids: str) -> None:
    """A batch that lost a value or its step would be no gain."""
    from mlflow import MlflowClient

    expected = [(step, 1 / (step + 1)) for step in range(METRICS)]
    for run_id in run_ids:
        values = MlflowClient(url).get_metric_history(run_id, "loss")
        assert [(metric.step, metric.value) for metric in values] == expected


def _config(url: str) -> dict[str, Any]:
    role = "arn:aws:iam::123456789012:role/mlflow"
    keys = ("experiment_get_by_name", "run_create", "run_update", "run_log_metric")
    return {
        "mlflow": {
            "experiment_name": "bench",
            "functions": {key: f"demo.demo.mlflow_{key}" for key in (*keys, "run_log_parameter")},
            "gateway": {"provider": "aws", "url": url, "role_arn": role},
        }
    }


if __name__ == "__main__":
    main()
