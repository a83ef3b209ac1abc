"""The client under Snowpark's local testing: the translators in QuickJS, and HTTP to a real MLflow."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import quickjs  # type: ignore[import-untyped] # it brings no types
import requests
from mlflow import MlflowClient
from snowflake.snowpark import Session
from snowflake.snowpark.types import DataType, DoubleType, LongType, StringType, VariantType

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_snowflake import Client, Metric, Setup, load
from mlflow_connections_snowflake._functions import API_PATH, BY_KEY
from mlflow_connections_snowflake._translators import RESPONSE, source

TYPES: dict[str, DataType] = {
    "VARCHAR": StringType(),
    "NUMBER": LongType(),
    "FLOAT": DoubleType(),
    "VARIANT": VariantType(),
}


def translate(key: str, event: object) -> Any:
    """Run a translator once."""
    context = quickjs.Context()
    context.eval(f"function udf(EVENT) {{\n{source(key)}\n}}")
    context.eval("function run(text) { return JSON.stringify(udf(JSON.parse(text))); }")
    return json.loads(context.get("run")(json.dumps(event)))


def register(session: Session, setup: Setup, url: str) -> None:
    """Register every function under its name, with its longest signature: there are no overloads."""

    def stand_in(key: str) -> Any:
        def function(*row: Any) -> Any:
            sent = translate(key, {"body": {"data": [[0, *row]]}})
            path = BY_KEY[key].endpoint + sent.get("urlSuffix", "")
            reply = requests.post(url + API_PATH + path, json=sent["body"], timeout=60)
            event = {"body": reply.json(), "translatorData": sent["translatorData"]}
            return translate(RESPONSE, event)["body"]["data"][0][1]

        return function

    for key, name in setup.functions.items():
        session.udf.register(
            stand_in(key),
            name=name.sql,
            return_type=VariantType(),
            input_types=[TYPES[kind] for _, kind in BY_KEY[key].arguments],
        )


@pytest.fixture
def local(mlflow_server: MlflowServer, write_config: Any) -> Iterator[Client]:
    """A client in a session that is no more than pandas."""
    session = Session.builder.config("local_testing", True).create()
    setup = load(write_config("aws"))
    register(session, setup, mlflow_server.url)
    yield Client(session, setup.functions)
    session.close()


def test_a_run_under_local_testing(local: Client, mlflow_server: MlflowServer) -> None:
    """The same client, without any SQL, makes a run with everything in it."""
    experiment_id = local.ensure_experiment("local it's")
    run_id = local.create_run(experiment_id, "local", tags={"a": "it's"})["info"]["run_id"]
    local.log_metric(run_id, "m", 0.5, 1, 1)
    local.log_parameter(run_id, "p", "$$ ' \"")
    local.log_batch(run_id, [Metric("m", 0.25, 2, 2)], {"q": 2}, {"t": "\u6771"})
    local.update_run(run_id, "FINISHED")
    client = MlflowClient(mlflow_server.url)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"p": "$$ ' \"", "q": "2"}
    assert (run.data.tags["a"], run.data.tags["t"]) == ("it's", "\u6771")
    history = client.get_metric_history(run_id, "m")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.25)]
    assert local.create_run(experiment_id, request_id="again") == local.create_run(
        experiment_id, request_id="again"
    )
