"""Metrics through the Snowflake bridge, one by one and batched, compared with MLflow's own client.

All in one run and against one MLflow server. The stand-in answers a statement much faster than
Snowflake does, so batching gains more there than in this benchmark.
"""

import itertools
import tempfile
import time
from pathlib import Path

from _ratio import Row, interleave, median, table
from mlflow import MlflowClient
from mlflow.entities import Metric as MlflowMetric
from snowflake.snowpark import Session

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._snowflake import BASES, Snowflake
from mlflow_connections_snowflake import Client, Metric, apply, read, statements

BATCH, SINGLES, ROUNDS = 1000, 20, 7
_ROLE = "arn:aws:iam::123456789012:role/mlflow"
_KEYS = ("experiment_get_by_name", "run_create", "run_update", "run_log_metric")


def main() -> None:
    """Print the rows."""
    with (
        tempfile.TemporaryDirectory() as folder,
        MlflowServer(Path(folder) / "mlflow") as server,
    ):
        stand_in = Snowflake(server.url, Path(folder) / "account", server.folder / "artifacts")
        stand_in.start()
        session = Session.builder.configs(stand_in.connection()).create()
        try:
            print(table(measure(stand_in, session, MlflowClient(server.url))))
        finally:
            session.close()
            stand_in.close()


def measure(stand_in: Snowflake, session: Session, plain: MlflowClient) -> list[Row]:
    """Set the bridge up and measure each way of logging metrics."""
    functions = {key: f"demo.demo.mlflow_{key}" for key in (*_KEYS, "run_log_parameter")}
    gateway = {"provider": "aws", "url": BASES["aws"], "role_arn": _ROLE}
    section = {"experiment_name": "bench", "functions": functions, "gateway": gateway}
    setup = read({"mlflow": section})
    apply(session, statements(setup))
    stand_in.trust("MLFLOW_API")
    client = Client(session, setup.functions)
    experiment_id = client.ensure_experiment("bench")
    ours, theirs = (client.create_run(experiment_id)["info"]["run_id"] for _ in range(2))
    # A repeated metric costs MLflow nothing, so no step occurs twice.
    steps = itertools.count()

    def now() -> int:
        return time.time_ns() // 1_000_000

    def one_by_one() -> None:
        for _ in range(SINGLES):
            client.log_metric(ours, "single", 0.5, now(), next(steps))

    def plain_one_by_one() -> None:
        for _ in range(SINGLES):
            plain.log_metric(theirs, "single", 0.5, now(), next(steps))

    def batched() -> None:
        taken = itertools.islice(steps, BATCH)
        sent = client.log_batch(ours, [Metric("batch", 0.5, now(), step) for step in taken])
        assert sent == 1

    def plain_batched() -> None:
        taken = itertools.islice(steps, BATCH)
        plain.log_batch(theirs, [MlflowMetric("batch", 0.5, now(), step) for step in taken])

    def many_rows() -> None:
        session.sql(
            "SELECT demo.demo.mlflow_run_log_metrics(?, 'rows', 0.5, ?, ? + seq4()) "
            f"FROM TABLE(GENERATOR(ROWCOUNT => {BATCH}))",
            params=[ours, now(), next(itertools.islice(steps, BATCH, None))],
        ).collect()

    for warm in (one_by_one, plain_one_by_one, batched, plain_batched, many_rows):
        warm()
    single_plain, single = interleave(plain_one_by_one, one_by_one, ROUNDS)
    batch_plain, batch = interleave(plain_batched, batched, ROUNDS)
    again, by_rows = interleave(plain_batched, many_rows, ROUNDS)
    a_single, a_batched = median(single, 1e3 / SINGLES), median(batch, 1e3 / BATCH)
    a_plain, a_row = median(batch_plain, 1e3 / BATCH), median(by_rows, 1e3 / BATCH)
    return [
        Row("a metric, one by one", median(single_plain, 1e3 / SINGLES), a_single, "ms"),
        Row(
            "a metric, batched",
            a_plain,
            a_batched,
            "ms",
            "at most 2 times MLflow's log_batch",
            a_batched <= 2 * a_plain,
        ),
        Row("a metric, rows of a table", median(again, 1e3 / BATCH), a_row, "ms"),
        Row(
            "a metric, batched, against one statement each",
            a_single,
            a_batched,
            "ms",
            "at most a hundredth",
            a_batched <= a_single / 100,
        ),
    ]


if __name__ == "__main__":
    main()
