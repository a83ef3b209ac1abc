"""Plain fluent MLflow in a Snowflake session: everything arrives, in few statements."""

import math
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from mlflow_connections import UnreachableError
from mlflow_connections_sandbox import Fault
from mlflow_connections_snowflake import store
from mlflow_connections_snowflake._client import REQUEST_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture
def procedure(bridge: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The environment of a procedure: the caller's active session and MLflow's URI, without any network."""
    bridge.session.use_role("MLFLOW_CALLER")
    mlflow.set_tracking_uri(store.Bridge.of(bridge.setup).uri())
    mlflow.set_experiment(request.node.name)
    bridge.stand_in.statements.clear()
    yield bridge
    bridge.session.use_role("ACCOUNTADMIN")


def history(client: "MlflowClient", run_id: str, key: str) -> list[tuple[int, float]]:
    """Return every value of a metric that MLflow has."""
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, key)]


def test_code_for_a_laptop_runs_unchanged(procedure: Any) -> None:
    """Params, metrics, tags, nested runs and status arrive as MLflow's own client would store them."""
    with mlflow.start_run(run_name="parent", tags={"team": "a'b"}, description="one") as parent:
        mlflow.log_param("lr", 0.1)
        mlflow.log_params({"text": 'it\'s "quoted" \\ \n ünïcode', "empty": ""})
        mlflow.log_metric("loss", 1.5, step=3)
        mlflow.log_metrics({"nan": float("nan"), "up": float("inf"), "down": -float("inf")})
        mlflow.set_tags({"gone": "1", "kept": "2"})
        mlflow.delete_tag("gone")
        mlflow.log_metric("far", 1.0, step=2**60)
        with mlflow.start_run(nested=True, run_name="child") as child:
            mlflow.log_metric("n", 1)
    read = procedure.mlflow.get_run(parent.info.run_id)
    assert read.info.status == "FINISHED"
    assert read.info.run_name == "parent"
    assert read.info.end_time >= read.info.start_time
    assert read.data.params == {
        "lr": "0.1",
        "text": 'it\'s "quoted" \\ \n ünïcode',
        "empty": "",
    }
    assert math.isnan(read.data.metrics["nan"])
    assert read.data.metrics["loss"] == 1.5
    assert read.data.metrics["up"] > 1e300
    assert read.data.metrics["down"] < -1e300
    assert history(procedure.mlflow, parent.info.run_id, "far") == [(2**60, 1.0)]
    assert read.data.tags["team"] == "a'b"
    assert read.data.tags["mlflow.note.content"] == "one"
    assert "gone" not in read.data.tags
    nested = procedure.mlflow.get_run(child.info.run_id)
    assert nested.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert nested.data.metrics == {"n": 1.0}


def test_a_thousand_metrics_are_a_handful_of_statements(procedure: Any) -> None:
    """1,000 calls keep their order and steps, and take at most a twentieth of the statements."""
    with mlflow.start_run() as run:
        for step in range(1000):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
    assert len(procedure.stand_in.statements.matching()) <= 1000 / 20
    values = history(procedure.mlflow, run.info.run_id, "loss")
    assert values == [(step, 1 / (step + 1)) for step in range(1000)]


def test_a_failing_run_keeps_its_data(procedure: Any) -> None:
    """An exception ends the run as FAILED, with everything logged before it."""

    def train() -> None:
        with mlflow.start_run():
            mlflow.log_param("p", 1)
            for step in range(7):
                mlflow.log_metric("m", step, step=step)
            raise RuntimeError("the node is dead")

    with pytest.raises(RuntimeError, match="the node is dead"):
        train()
    [run] = mlflow.search_runs(output_format="list")
    read = procedure.mlflow.get_run(run.info.run_id)
    assert read.info.status == "FAILED"
    assert read.data.params == {"p": "1"}
    assert len(history(procedure.mlflow, run.info.run_id, "m")) == 7


def test_a_refused_param_is_reported_at_the_end(procedure: Any) -> None:
    """A param that another process has set is reported with its run, and everything else is stored."""
    run = mlflow.start_run()
    procedure.mlflow.log_param(run.info.run_id, "taken", "by another")
    mlflow.log_params({"taken": "by me", "free": 1})
    mlflow.log_metrics({f"m{number}": number for number in range(30)})
    with pytest.raises(MlflowException, match=rf"run {run.info.run_id}.*param 'taken'") as caught:
        mlflow.end_run()
    assert "all others" in str(caught.value)
    read = procedure.mlflow.get_run(run.info.run_id)
    assert read.data.params == {"taken": "by another", "free": "1"}
    assert len(read.data.metrics) == 30
    assert read.info.status == "FINISHED"


def test_invalid_values_are_refused_when_they_are_logged(procedure: Any) -> None:
    """Invalid keys, and a second value for a param, raise in the line that logs them."""
    with mlflow.start_run() as run:
        mlflow.log_param("p", 1)
        with pytest.raises(MlflowException, match="Changing param values"):
            mlflow.log_param("p", 2)
        with pytest.raises(MlflowException, match=r"Invalid.*bad"):
            mlflow.log_metric("bad\x07key", 1)
    assert procedure.mlflow.get_run(run.info.run_id).data.params == {"p": "1"}


def test_reading_includes_buffered_values(procedure: Any) -> None:
    """Runs and experiments are found by ID, by name and by search, with values that were just logged."""
    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        mlflow.log_metric("m", 2.0, step=1)
        assert mlflow.get_run(run.info.run_id).data.metrics == {"m": 2.0}
        mlflow.log_metric("m", 3.0, step=2)
        [found] = mlflow.search_runs(filter_string="metrics.m > 2.5", output_format="list")
        assert found.info.run_id == run.info.run_id
        values = client.get_metric_history(run.info.run_id, "m")
        assert [(metric.step, metric.value) for metric in values] == [(1, 2.0), (2, 3.0)]
    experiment = mlflow.get_experiment(run.info.experiment_id)
    named = mlflow.get_experiment_by_name(experiment.name)
    assert named is not None
    assert named.experiment_id == experiment.experiment_id
    assert mlflow.get_experiment_by_name("none of this name") is None
    assert experiment.name in [e.name for e in mlflow.search_experiments()]
    with pytest.raises(MlflowException, match="not found"):
        mlflow.get_run("0" * 32)
    with pytest.raises(MlflowException, match=r"is no id|Invalid value"):
        mlflow.get_run("x' OR '1' = '1")


def test_names_that_a_filter_cannot_hold(procedure: Any) -> None:
    """Experiments with quotes, backslashes and wildcards in their names are distinguished."""
    names = ["o'brien", 'say "hi"', "back\\slash", "100%", "under_score", "underXscore"]
    ids = {name: mlflow.create_experiment(f"{name} {procedure.config.parent}") for name in names}
    assert len(set(ids.values())) == len(names)
    for name, experiment_id in ids.items():
        found = mlflow.get_experiment_by_name(f"{name} {procedure.config.parent}")
        assert found is not None
        assert found.experiment_id == experiment_id
    with pytest.raises(MlflowException, match=r"already exists"):
        mlflow.create_experiment(f"o'brien {procedure.config.parent}")


def test_a_deleted_experiment_is_reported(procedure: Any) -> None:
    """MLflow's own message about a deleted experiment appears, as outside of Snowflake."""
    name = f"deleted {procedure.config.parent}"
    procedure.mlflow.delete_experiment(procedure.mlflow.create_experiment(name))
    with pytest.raises(MlflowException, match="deleted"):
        mlflow.set_experiment(name)


def test_a_run_is_resumed(procedure: Any) -> None:
    """Another procedure resumes a run by its ID and ends it again."""
    with mlflow.start_run() as run:
        mlflow.log_metric("m", 1)
    with mlflow.start_run(run.info.run_id):
        assert procedure.mlflow.get_run(run.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("later", 2)
    read = procedure.mlflow.get_run(run.info.run_id)
    assert read.info.status == "FINISHED"
    assert read.data.metrics == {"m": 1.0, "later": 2.0}


def test_a_second_attempt_finds_the_run_of_the_first(procedure: Any) -> None:
    """A task that is retried, and a request that is delivered twice, create one run."""
    procedure.stand_in.policy.faults.append("duplicate")
    for _ in range(2):
        with mlflow.start_run(tags={REQUEST_TAG: "task-1"}):
            pass
    assert procedure.stand_in.policy.faults == []
    assert len(mlflow.search_runs(output_format="list")) == 1


def test_delivered_twice_changes_nothing(procedure: Any) -> None:
    """Whatever Snowflake repeats, MLflow has each value once."""
    with mlflow.start_run() as run:
        for step in range(20):
            mlflow.log_metric("m", step, step=step)
        procedure.stand_in.policy.faults.append("duplicate")
        mlflow.flush_async_logging()
    assert procedure.stand_in.policy.faults == []
    assert len(history(procedure.mlflow, run.info.run_id, "m")) == 20


def test_a_gateway_that_is_down_loses_nothing(procedure: Any) -> None:
    """While the gateway is down, flushing raises one sentence; afterwards everything arrives, once."""
    gateway, policy = procedure.stand_in.gateways["aws"], procedure.stand_in.policy
    patience, policy.retry_seconds = policy.retry_seconds, 0.1
    run = mlflow.start_run()
    mlflow.log_metric("m", 1, step=1)
    gateway.faults.inject(Fault(status=503, body="<html>"))
    try:
        with pytest.raises(UnreachableError, match="down: it responded 503"):
            store.flush()
        mlflow.log_metric("m", 2, step=2)
    finally:
        gateway.faults.clear()
        policy.retry_seconds = patience
    mlflow.end_run()
    assert history(procedure.mlflow, run.info.run_id, "m") == [(1, 1.0), (2, 2.0)]


def test_logging_from_threads(procedure: Any) -> None:
    """Values of other threads are sent by the session's thread, and none is lost."""

    def work(number: int) -> None:
        for step in range(50):
            client.log_metric(run.info.run_id, f"m{number}", step, step=step)

    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        waited: Any = mlflow.log_metric("async", 1, synchronous=False)
        waited.wait()
    for number in range(4):
        assert len(history(procedure.mlflow, run.info.run_id, f"m{number}")) == 50
    assert history(procedure.mlflow, run.info.run_id, "async") == [(0, 1.0)]


def test_autologging(procedure: Any) -> None:
    """scikit-learn's autologging, which uses its own threads, logs its run."""
    LinearRegression = import_module("sklearn.linear_model").LinearRegression  # noqa: N806 - a class

    mlflow.sklearn.autolog(log_models=False, silent=False)
    try:
        LinearRegression().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
    finally:
        mlflow.sklearn.autolog(disable=True)
    [run] = mlflow.search_runs(output_format="list")
    read = procedure.mlflow.get_run(run.info.run_id)
    assert read.info.status == "FINISHED"
    assert read.data.params["fit_intercept"] == "True"
    assert read.data.metrics["training_r2_score"] == pytest.approx(1.0)


def test_calls_without_a_post_are_refused_by_name(procedure: Any) -> None:
    """A method that needs GET or PATCH raises an error that names the alternative."""
    with pytest.raises(MlflowException, match=r"restore_run.*external_access"):
        mlflow.MlflowClient().restore_run("0" * 32)
