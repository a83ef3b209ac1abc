"""The client with Snowpark's local testing, which executes no SQL."""

from collections.abc import Iterator
from typing import Any

import pytest
from snowflake.snowpark import Session

from mlflow_connections_snowflake import Client, Metric


@pytest.fixture
def local(bridge: Any) -> Iterator[Client]:
    """A client in a session that only uses pandas, with the account's functions."""
    session = Session.builder.config("local_testing", True).create()
    bridge.stand_in.register_locally(session)
    yield Client(session, bridge.setup.functions)
    session.close()


def test_a_run_under_local_testing(local: Client, bridge: Any) -> None:
    """The same client, without any SQL, creates one complete run."""
    experiment_id = local.ensure_experiment("local it's")
    run = local.create_run(experiment_id, "local", tags={"a": "it's"}, request_id="task")
    run_id = run["info"]["run_id"]
    local.log_batch(run_id, [Metric("m", 0.25, 2, 2)], {"p": "$$ ' \""}, {"t": "\u6771"})
    local.update_run(run_id, "FAILED")
    read = bridge.mlflow.get_run(run_id)
    assert (read.info.status, read.info.run_name) == ("FAILED", "local")
    assert read.data.params == {"p": "$$ ' \""}
    assert (read.data.tags["a"], read.data.tags["t"]) == ("it's", "\u6771")
    local.log_metric(run_id, "single", 1.0, 1, 1)
    for key, expected in (("m", (2, 0.25, 2)), ("single", (1, 1.0, 1))):
        [metric] = bridge.mlflow.get_metric_history(run_id, key)
        assert (metric.step, metric.value, metric.timestamp) == expected
    again = local.create_run(experiment_id, request_id="task")
    assert again["info"]["run_id"] == run_id
