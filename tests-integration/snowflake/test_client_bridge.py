"""The client logs every value through the stand-in to a real MLflow server, under repeated deliveries."""

import contextlib
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.entities import ViewType
from snowflake.snowpark import Session

from mlflow_connections import AccessError, UnreachableError
from mlflow_connections_sandbox import Fault
from mlflow_connections_snowflake import BridgeError, Client, Metric, MlflowRefusedError

HOSTILE = (
    "it's",
    'say "no"',
    "'; DROP SCHEMA demo; --",
    "') , ('x",
    "$$ $$",
    "back\\slash \\' \\",
    "line\nbreak\r\n\ttab",
    "{'a': __import__('os').getcwd()}",
    "\u00fcn\u00efc\u00f6de \u6771\u4eac \U0001f680 \u2028",
    "? %s {0} ${x} :1",
    "NULL",
    "<script>&amp;",
    '{"error_code": "X"}',
)
# SQLite, in which the test's MLflow keeps its data, ends a text at NUL in some of its functions.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)


@pytest.fixture(scope="module")
def client(bridge: Any) -> Client:
    """A client of the bridge."""
    return Client(bridge.session, bridge.setup.functions)


@pytest.fixture(scope="module")
def experiment_id(client: Client) -> str:
    """An experiment for this module."""
    return client.ensure_experiment("client")


@pytest.fixture
def run_id(client: Client, experiment_id: str) -> str:
    """A new run."""
    return str(client.create_run(experiment_id)["info"]["run_id"])


@pytest.mark.parametrize("evil", HOSTILE)
def test_hostile_values_arrive_byte_for_byte(
    bridge: Any, client: Client, run_id: str, evil: str
) -> None:
    """Values and tags, logged singly and in a batch, are unchanged in MLflow."""
    client.log_parameter(run_id, "single", evil)
    client.set_tag(run_id, "single", evil)
    client.log_batch(run_id, params={"batch": evil}, tags={"batch": evil})
    data = bridge.mlflow.get_run(run_id).data
    assert data.params == {"single": evil, "batch": evil}
    assert (data.tags["single"], data.tags["batch"]) == (evil, evil)


@pytest.mark.parametrize("evil", HOSTILE)
def test_hostile_names_arrive_byte_for_byte(bridge: Any, client: Client, evil: str) -> None:
    """The names of an experiment and a run are complete, and the experiment is found by its name."""
    created = client.ensure_experiment(f"named {evil}")
    assert client.ensure_experiment(f"named {evil}") == created
    found = client.experiment(f"named {evil}")
    assert found is not None
    assert found["experiment_id"] == created
    assert bridge.mlflow.get_experiment(created).name == f"named {evil}"
    run = client.create_run(created, f"run {evil}", tags={"note": evil})
    read = bridge.mlflow.get_run(run["info"]["run_id"])
    assert (read.info.run_name, read.data.tags["note"]) == (f"run {evil}", evil)


@pytest.mark.parametrize("evil", HOSTILE)
def test_hostile_run_ids_and_keys_change_nothing(
    bridge: Any, client: Client, experiment_id: str, run_id: str, evil: str
) -> None:
    """Unknown runs and invalid keys are refused, and every other run is unchanged."""
    client.log_parameter(run_id, "kept", "1")

    def state() -> list[Any]:
        runs = bridge.mlflow.search_runs([experiment_id], run_view_type=ViewType.ALL)
        return [run.to_dictionary() for run in runs]

    before = state()
    with pytest.raises(MlflowRefusedError):
        client.update_run(evil, "FINISHED")
    with pytest.raises(MlflowRefusedError):
        client.log_parameter(evil, "k", "v")
    with contextlib.suppress(MlflowRefusedError):
        client.log_parameter(run_id, evil, "v")
    after = state()
    mine = [run for run in after if run["info"]["run_id"] == run_id]
    params = mine[0]["data"]["params"]
    assert params.pop("kept") == "1"
    assert params in ({}, {evil: "v"})
    mine[0]["data"]["params"] = {"kept": "1"}
    assert after == before


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(values=st.lists(texts, min_size=1, max_size=30))
def test_any_text_is_read_back(
    bridge: Any, client: Client, experiment_id: str, values: list[str]
) -> None:
    """Whatever texts are logged, MLflow returns the same, byte for byte."""
    logged = {f"k{index}": value for index, value in enumerate(values)}
    run_id = client.create_run(experiment_id)["info"]["run_id"]
    client.log_batch(run_id, params=logged, tags=logged)
    client.log_parameter(run_id, "single", values[0])
    data = bridge.mlflow.get_run(run_id).data
    # MLflow stores an empty param unchanged, and reads it back.
    assert data.params == {**logged, "single": values[0]}
    assert {key: data.tags[key] for key in logged} == logged


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    values=st.lists(
        st.floats(allow_infinity=False, allow_nan=False, allow_subnormal=False),
        min_size=1,
        max_size=30,
    )
)
def test_any_number_is_read_back(
    bridge: Any, client: Client, experiment_id: str, values: list[float]
) -> None:
    """Whatever numbers are logged, each step has its own, the same to the last bit."""
    run_id = client.create_run(experiment_id)["info"]["run_id"]
    client.log_batch(
        run_id, [Metric("m", value, 1_000 + step, step) for step, value in enumerate(values)]
    )
    client.log_metric(run_id, "single", values[0], 5, 7)
    history = bridge.mlflow.get_metric_history(run_id, "m")
    assert {metric.step: metric.value for metric in history} == dict(enumerate(values))
    [single] = bridge.mlflow.get_metric_history(run_id, "single")
    assert (single.value, single.timestamp, single.step) == (values[0], 5, 7)


def test_nan_and_infinities(bridge: Any, client: Client, run_id: str) -> None:
    """NaN is NaN in MLflow; infinities are what MLflow itself converts them to."""
    for key, value in (("nan", math.nan), ("up", math.inf), ("down", -math.inf)):
        client.log_metric(run_id, key, value)
        client.log_batch(run_id, [Metric(f"{key}-batch", value, 1)])
    metrics = bridge.mlflow.get_run(run_id).data.metrics
    plain = bridge.mlflow.create_run(bridge.mlflow.get_run(run_id).info.experiment_id).info.run_id
    bridge.mlflow.log_metric(plain, "up", math.inf)
    up = bridge.mlflow.get_run(plain).data.metrics["up"]
    assert math.isnan(metrics["nan"])
    assert math.isnan(metrics["nan-batch"])
    assert (metrics["up"], metrics["up-batch"]) == (up, up)
    assert (metrics["down"], metrics["down-batch"]) == (-up, -up)


def test_sql_may_log_nan_too(bridge: Any, run_id: str) -> None:
    """A NaN and a NULL of a SQL column are NaN in MLflow, rather than an error."""
    bridge.session.sql(
        "SELECT demo.demo.mlflow_run_log_metric(?, 'nan', 'NaN'::FLOAT), "
        "demo.demo.mlflow_run_log_metric(?, 'null', NULL)",
        params=[run_id, run_id],
    ).collect()
    metrics = bridge.mlflow.get_run(run_id).data.metrics
    assert math.isnan(metrics["nan"])
    assert math.isnan(metrics["null"])


def active_runs(bridge: Any, experiment_id: str) -> list[str]:
    """The IDs of the active runs of an experiment."""
    return [run.info.run_id for run in bridge.mlflow.search_runs([experiment_id])]


def test_a_duplicate_delivery_makes_one_run(bridge: Any, client: Client) -> None:
    """Snowflake delivers a request twice; MLflow has one run, which is the returned one."""
    experiment_id = client.ensure_experiment("delivered twice")
    # The first request of a creation is the creation itself: there is no ID to search for.
    bridge.stand_in.policy.faults.append("duplicate")
    run = client.create_run(experiment_id, "once")
    assert bridge.stand_in.policy.faults == []
    assert active_runs(bridge, experiment_id) == [run["info"]["run_id"]]


def test_a_lost_reply_makes_one_run(bridge: Any, client: Client) -> None:
    """MLflow created the run but its reply was cut; Snowflake retries, and one run remains."""
    experiment_id = client.ensure_experiment("reply lost")
    gateway = bridge.stand_in.gateways["aws"]
    gateway.faults.inject(Fault(path="runs/create", truncate=10, times=2))
    run = client.create_run(experiment_id, "once")
    created = [d for d in bridge.stand_in.deliveries if d.function == "MLFLOW_RUN_CREATE"][-3:]
    assert len({delivery.batch for delivery in created}) == 1
    everything = bridge.mlflow.search_runs([experiment_id], run_view_type=ViewType.ALL)
    assert len(everything) == 3
    assert active_runs(bridge, experiment_id) == [run["info"]["run_id"]]


def test_logging_twice_is_logging_once(bridge: Any, client: Client, run_id: str) -> None:
    """Every logging call is delivered twice, and MLflow has each value once."""
    for call in (
        lambda: client.log_metric(run_id, "m", 0.5, 1, 1),
        lambda: client.log_batch(run_id, [Metric("m", 0.25, 2, 2)], {"p": "1"}, {"t": "1"}),
        lambda: client.log_parameter(run_id, "q", "2"),
        lambda: client.set_tag(run_id, "u", "2"),
        lambda: client.update_run(run_id, "FINISHED"),
    ):
        bridge.stand_in.policy.faults.append("duplicate")
        call()
    history = bridge.mlflow.get_metric_history(run_id, "m")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.25)]
    assert bridge.mlflow.get_run(run_id).data.params == {"p": "1", "q": "2"}


def test_a_slow_gateway_is_polled(bridge: Any, client: Client, run_id: str) -> None:
    """A gateway that first returns 202 is polled until it is done."""
    gateway = bridge.stand_in.gateways["aws"]
    gateway.polls = 2
    try:
        client.log_parameter(run_id, "slow", "1")
    finally:
        gateway.polls = 0
    assert bridge.mlflow.get_run(run_id).data.params == {"slow": "1"}


@pytest.mark.parametrize(
    ("fault", "kind", "sentence"),
    [
        (Fault(status=503, body="<html>"), UnreachableError, "is down: it responded 503"),
        (Fault(status=403, body="{}"), AccessError, "responded 403"),
        (Fault(status=200, body="<html>"), UnreachableError, "a page instead of MLflow's JSON"),
    ],
)
def test_a_failing_gateway_raises_an_error(
    bridge: Any, client: Client, fault: Fault, kind: type[Exception], sentence: str
) -> None:
    """Each fault raises its own kind of error, with one sentence."""
    policy, gateway = bridge.stand_in.policy, bridge.stand_in.gateways["aws"]
    patience, policy.retry_seconds = policy.retry_seconds, 0.1
    gateway.faults.inject(fault)
    try:
        with pytest.raises(kind, match=sentence):
            client.experiment("x")
    finally:
        gateway.faults.clear()
        policy.retry_seconds = patience


def test_mlflows_own_message(client: Client) -> None:
    """MLflow's refusal keeps its code and its own message."""
    with pytest.raises(MlflowRefusedError) as caught:
        client.update_run("0" * 32, "FINISHED")
    assert caught.value.code == "RESOURCE_DOES_NOT_EXIST"
    assert caught.value.message == f"Run with id={'0' * 32} not found"


def test_a_role_without_grants_gets_the_remedy(bridge: Any) -> None:
    """A role that may not call the functions gets an error with the remedy."""
    bridge.session.sql("CREATE ROLE IF NOT EXISTS stranger").collect()
    bridge.session.sql("GRANT ROLE stranger TO ROLE accountadmin").collect()
    bridge.session.sql("GRANT USAGE ON WAREHOUSE compute_wh TO ROLE stranger").collect()
    stranger = Session.builder.configs(bridge.stand_in.connection(role="STRANGER")).create()
    with (
        contextlib.closing(stranger),
        pytest.raises(BridgeError, match="does not exist, or this role may not call it"),
    ):
        Client(stranger, bridge.setup.functions).experiment("x")


def test_no_value_is_ever_in_a_statement(bridge: Any, client: Client, run_id: str) -> None:
    """The SQL that reached the account contains none of the values: all were bound."""
    client.log_parameter(run_id, "bound", "secret value")
    client.log_batch(run_id, params={"bound too": "secret value"})
    sent = bridge.stand_in.statements
    assert sent.matching("MLFLOW_RUN_LOG_BATCH")
    assert sent.matching("secret value") == sent.matching(run_id) == []
