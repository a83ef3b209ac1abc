"""The client, on a session that runs the translators against a small MLflow in memory."""

import json
import math
import re
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snowflake.snowpark import Row
from snowflake.snowpark.exceptions import SnowparkSQLException

from mlflow_connections import AccessError
from mlflow_connections_snowflake import (
    BridgeConfig,
    BridgeError,
    Client,
    Metric,
    MissingFunctionError,
    MlflowRefusedError,
)
from mlflow_connections_snowflake._client import REQUEST_TAG
from mlflow_connections_snowflake._functions import API_PATH, BY_KEY

several = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


class SmallMlflow:
    """The few endpoints that the client needs, as strict as MLflow about their input."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.undeletable = False

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one request."""
        self.requests.append(path)
        handler = getattr(self, re.sub(r"\W", "_", path))
        reply: dict[str, Any] = handler(body)
        return reply

    def experiments_search(self, body: dict[str, Any]) -> dict[str, Any]:
        """Supports equality, and treats a pattern as everything."""
        wanted = re.fullmatch(r"name = '([^']*)'", body["filter"], re.DOTALL)
        return {
            "experiments": [
                {"name": name, "experiment_id": key}
                for key, name in self.experiments.items()
                if wanted is None or wanted[1] == name
            ]
        }

    def experiments_create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Names are unique."""
        if body["name"] in self.experiments.values():
            return {"error_code": "RESOURCE_ALREADY_EXISTS", "message": "taken"}
        self.experiments[key := str(len(self.experiments) + 1)] = body["name"]
        return {"experiment_id": key}

    def runs_create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Each request creates a run, as in MLflow."""
        assert isinstance(body["experiment_id"], str)
        run_id = uuid.uuid4().hex
        info = {"run_id": run_id, "status": "RUNNING", "start_time": body["start_time"]}
        run = {
            "info": {**info, "run_name": body.get("run_name", "made up")},
            "tags": {tag["key"]: tag["value"] for tag in body["tags"]},
            "metrics": [],
            "params": {},
        }
        self.runs[run_id] = run
        return {"run": {"info": run["info"]}}

    def runs_search(self, body: dict[str, Any]) -> dict[str, Any]:
        """Supports one tag."""
        key, value = re.fullmatch(r"tags.`(.*)` = '(.*)'", body["filter"]).groups()  # type: ignore[union-attr]
        return {"runs": [run for run in self.runs.values() if run["tags"].get(key) == value]}

    def runs_delete(self, body: dict[str, Any]) -> dict[str, Any]:
        """A deleted run is no longer active, and cannot be deleted again."""
        if self.undeletable or self.runs.pop(body["run_id"], None) is None:
            return {"error_code": "INVALID_PARAMETER_VALUE", "message": "must be active"}
        return {}

    def runs_update(self, body: dict[str, Any]) -> dict[str, Any]:
        """Unknown runs are refused."""
        if body["run_id"] not in self.runs:
            return {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such run"}
        self.runs[body["run_id"]]["info"].update(body)
        return {"run_info": {}}

    def runs_log_batch(self, body: dict[str, Any]) -> dict[str, Any]:
        """Keeps everything in order."""
        run = self.runs[body["run_id"]]
        run["metrics"] += body["metrics"]
        run["params"].update({pair["key"]: pair["value"] for pair in body["params"]})
        run["tags"].update({pair["key"]: pair["value"] for pair in body["tags"]})
        return {}

    def runs_log_metric(self, body: dict[str, Any]) -> dict[str, Any]:
        """One metric."""
        self.runs[body.pop("run_id")]["metrics"].append(body)
        return {}

    def runs_log_parameter(self, body: dict[str, Any]) -> dict[str, Any]:
        """One parameter."""
        self.runs[body["run_id"]]["params"][body["key"]] = body["value"]
        return {}

    def runs_set_tag(self, body: dict[str, Any]) -> dict[str, Any]:
        """One tag."""
        self.runs[body["run_id"]]["tags"][body["key"]] = body["value"]
        return {}


class Session:
    """Runs a call of an external function as Snowflake does: translators around a POST."""

    def __init__(self, setup: BridgeConfig, engine: Any) -> None:
        self.mlflow = SmallMlflow()
        self.statements: list[str] = []
        self.deliveries = 1
        self._keys = {name.sql: key for key, name in setup.functions.items()}
        self._engine = engine
        self.answer: str | None = None
        self.signatures = {
            key: {len(one) for one in function.signatures} for key, function in BY_KEY.items()
        }

    def sql(self, text: str, params: list[Any]) -> "Session":
        """Accept a statement; it must be a call with only bound values."""
        self.statements.append(text)
        match = re.fullmatch(r'SELECT ((?:"[^"]*"\.?){3})\(((?:\?|PARSE_JSON\(\?\)|, )*)\)', text)
        assert match is not None, text
        self._key = self._keys[match[1]]
        marks = match[2].split(", ")
        assert len(marks) == len(params)
        self._count = len(marks)
        for mark, param in zip(marks, params, strict=True):
            if mark != "?" and param is not None:
                json.loads(param, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
        self._params = params
        return self

    def collect(self) -> list[Row]:
        """Send the call, as many times as Snowflake would deliver it."""
        if not self.signatures[self._key]:
            raise SnowparkSQLException("SQL compilation error:\nUnknown user-defined function F")
        if self._count not in self.signatures[self._key]:
            raise SnowparkSQLException("Invalid argument types for function 'F': (VARCHAR(1))")
        try:
            # JSON has no NaN: Snowflake sends null.
            row = [None if param != param else param for param in self._params]
            sent = self._engine.request(self._key, [0, *row])
            path = BY_KEY[self._key].endpoint or sent["urlSuffix"]
            # The replies to all deliveries but the last are lost.
            replies = [
                self.mlflow.post(path, json.loads(json.dumps(sent["body"])))
                for _ in range(self.deliveries)
            ]
            [[_, value]] = self._engine.response(replies[-1], sent["translatorData"])
        except Exception as error:
            raise SnowparkSQLException(f"JavaScript execution error: {error}") from error
        return [Row(V=json.dumps(value) if self.answer is None else self.answer)]


@pytest.fixture
def session(aws: BridgeConfig, quick: Any) -> Session:
    """A session on an empty MLflow with one experiment."""
    session = Session(aws, quick)
    session.mlflow.experiments["1"] = "demo-mlops"
    return session


@pytest.fixture
def client(session: Any, aws: BridgeConfig) -> Client:
    """A client on it."""
    return Client(session, aws.functions)


def test_a_run_from_start_to_end(client: Client, session: Session) -> None:
    """A run is created, logged to and ended, and MLflow stores all of it."""
    experiment_id = client.ensure_experiment("demo-mlops")
    run_id = client.create_run(experiment_id, "first", 5, {"team": "a"})["info"]["run_id"]
    client.log_metric(run_id, "loss", 0.5, 6, 1)
    client.log_parameter(run_id, "rate", 0.1)
    client.set_tag(run_id, "note", "it's")
    client.update_run(run_id, "FINISHED")
    run = session.mlflow.runs[run_id]
    assert (experiment_id, run["info"]["run_name"], run["info"]["start_time"]) == ("1", "first", 5)
    assert run["metrics"] == [{"key": "loss", "value": 0.5, "timestamp": 6, "step": 1}]
    assert run["params"] == {"rate": "0.1"}
    assert (run["tags"]["team"], run["tags"]["note"]) == ("a", "it's")
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["end_time"] >= run["info"]["start_time"]


@pytest.fixture(params=["short", "long"])
def five(request: pytest.FixtureRequest, session: Session) -> Session:
    """An account with only the specification's five functions, with and without more arguments."""
    for key, function in BY_KEY.items():
        chosen = function.signatures[0 if request.param == "short" else -1]
        session.signatures[key] = {len(chosen)} if function.specified else set()
    return session


def test_five_functions_are_enough(five: Session, aws: BridgeConfig) -> None:
    """Plain tracking needs no other function: values are sent one by one, and no run is left running."""
    client = Client(five, aws.functions)  # type: ignore[arg-type] # the fake is a session
    experiment_id = client.ensure_experiment("demo-mlops")
    run_id = client.create_run(experiment_id, "first", tags={"a": "b"})["info"]["run_id"]
    assert list(five.mlflow.runs) == [run_id]
    assert REQUEST_TAG not in five.mlflow.runs[run_id]["tags"]
    client.log_metric(run_id, "loss", 0.5)
    client.log_metric(run_id, "nothing", math.nan)
    client.log_parameter(run_id, "rate", 0.1)
    body = {
        "run_id": run_id,
        "metrics": [{"key": "loss", "value": 0.25, "timestamp": 7, "step": 2}],
        "params": [{"key": "depth", "value": "3"}],
        "tags": [{"key": "t", "value": "v"}],
    }
    client.call("runs/log-batch", body)
    client.call("runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": 9})
    run = five.mlflow.runs[run_id]
    assert [one["value"] for one in run["metrics"]] == [0.5, "NaN", 0.25]
    assert run["params"] == {"rate": "0.1", "depth": "3"}
    assert run["info"]["status"] == "FINISHED"


def test_calls_that_need_other_functions_are_named(
    five: Session, aws: BridgeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """Each call that needs another function names it; an omitted value causes one warning."""
    client = Client(five, aws.functions)  # type: ignore[arg-type] # the fake is a session
    run_id = client.create_run("1")["info"]["run_id"]
    for call in (
        lambda: client.call("runs/delete", {"run_id": run_id}),
        lambda: client.call("runs/update", {"run_id": run_id, "run_name": "n", "status": "FAILED"}),
        lambda: client.log_metric(run_id, "loss", math.inf),
        lambda: client.set_tag(run_id, "t", "v"),
        lambda: client.ensure_experiment("unknown"),
        lambda: client.search_runs(["1"]),
    ):
        with pytest.raises(MissingFunctionError, match=r"DEMO\.DEMO\.MLFLOW_"):
            call()
    assert five.mlflow.runs[run_id]["metrics"] == []
    before = len(five.statements)
    for value in ("v", "w"):
        client.call("runs/log-batch", {"run_id": run_id, "tags": [{"key": "t", "value": value}]})
    assert len(five.statements) == before, "a function that is missing is tried only once"
    assert [r.message for r in caplog.records if "Tags such as" in r.message] == [
        "Tags such as 't' cannot be set without the function DEMO.DEMO.MLFLOW_RUN_SET_TAG."
    ]


def test_a_step_that_cannot_be_passed_on_causes_a_warning(
    session: Session, aws: BridgeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """A function with only the required arguments loses steps, names and tags, with a warning."""
    for key, function in BY_KEY.items():
        session.signatures[key] = {function.required} if function.specified else set()
    client = Client(session, aws.functions)  # type: ignore[arg-type] # the fake is a session
    run_id = client.create_run("1", "name")["info"]["run_id"]
    client.log_metric(run_id, "loss", 0.5, step=0)
    client.log_metric(run_id, "loss", 0.5, step=3)
    client.log_metric(run_id, "loss", 0.5, step=4)
    told = [record.message for record in caplog.records]
    assert len(told) == 2
    assert "so run_name cannot be passed on" in told[0]
    assert "takes only run_id, key, value, so step cannot be passed on" in told[1]


@pytest.mark.parametrize(
    ("reply", "kind", "sentence"),
    [
        ({}, BridgeError, "responded 200 without MLflow's reply: {}"),
        ({"message": "Forbidden"}, AccessError, "Forbidden"),
        ({"message": "Endpoint moved"}, BridgeError, "Endpoint moved"),
    ],
)
def test_a_reply_that_is_not_mlflows(
    client: Client,
    session: Session,
    reply: dict[str, Any],
    kind: type[Exception],
    sentence: str,
) -> None:
    """A gateway that refuses with 200 is quoted, whether or not its translator checks the body."""
    session.mlflow.runs_create = lambda body: reply  # type: ignore[method-assign]
    with pytest.raises(kind, match=re.escape(sentence)):
        client.create_run("1")
    session.answer = json.dumps({"body": reply})
    session.mlflow.runs_update = lambda body: {}  # type: ignore[method-assign]
    with pytest.raises(kind, match=re.escape(sentence)):
        client.update_run("r", "FINISHED")["run_info"]


@several
@given(name=texts, key=texts, value=texts, tag=texts)
def test_any_text_changes_only_itself(
    aws: BridgeConfig, quick: Any, name: str, key: str, value: str, tag: str
) -> None:
    """Names, keys, values and tags of any characters are stored byte for byte."""
    session: Any = Session(aws, quick)
    client = Client(session, aws.functions)
    run_id = client.create_run(client.ensure_experiment(name), name, 1, {"mark": tag})["info"][
        "run_id"
    ]
    client.log_parameter(run_id, key, value)
    client.log_metric(run_id, key, 1.5, 1)
    client.set_tag(run_id, key + "!", value)
    [(_, run)] = session.mlflow.runs.items()
    assert session.mlflow.experiments == {"1": name}
    assert run["params"] == {key: value}
    assert run["tags"] == {"mark": tag, key + "!": value} | {REQUEST_TAG: run["tags"][REQUEST_TAG]}
    assert [metric["key"] for metric in run["metrics"]] == [key]
    # Values never reach a statement: there are as many different statements as functions called.
    assert len(set(session.statements)) <= len(BY_KEY)


@pytest.mark.parametrize("deliveries", [1, 2, 3])
def test_one_run_however_often_the_request_is_delivered(
    client: Client, session: Session, deliveries: int
) -> None:
    """Snowflake repeats a request whose reply was lost; one run remains, and it is the returned one."""
    session.deliveries = deliveries
    run = client.create_run("1")
    assert list(session.mlflow.runs) == [run["info"]["run_id"]]


def test_a_duplicate_that_cannot_be_deleted_is_an_error(client: Client, session: Session) -> None:
    """A duplicate run that cannot be deleted is reported to the caller."""
    session.deliveries = 2
    session.mlflow.undeletable = True
    with pytest.raises(MlflowRefusedError, match="must be active"):
        client.create_run("1")


def test_a_retried_task_finds_its_run(client: Client, session: Session) -> None:
    """With the same request ID the run of the first attempt is returned, and none is created."""
    first = client.create_run("1", request_id="task-1")
    second = client.create_run("1", request_id="task-1")
    other = client.create_run("1", request_id="task-2")
    assert first["info"]["run_id"] == second["info"]["run_id"] != other["info"]["run_id"]
    assert session.mlflow.requests.count("runs/create") == 2


@pytest.mark.parametrize("request_id", ["it's", "a\\"])
def test_a_request_id_that_no_filter_can_hold(client: Client, request_id: str) -> None:
    """MLflow's filter has no escape, so such an ID is refused before a run is created."""
    with pytest.raises(BridgeError, match="must not contain a quote"):
        client.create_run("1", request_id=request_id)


def test_an_experiment_is_created_once(client: Client, session: Session) -> None:
    """An experiment that is requested again, or delivered twice, is the same."""
    session.deliveries = 2
    assert client.experiment("new") is None
    first = client.ensure_experiment("new")
    assert client.ensure_experiment("new") == first
    assert list(session.mlflow.experiments.values()) == ["demo-mlops", "new"]


def test_a_deleted_experiment_is_named(client: Client, session: Session) -> None:
    """MLflow keeps the name of a deleted experiment, and the message contains the remedy."""
    session.mlflow.experiments_search = lambda body: {}  # type: ignore[method-assign]
    with pytest.raises(BridgeError, match=r"'demo-mlops' was deleted\. Restore it"):
        client.ensure_experiment("demo-mlops")


@pytest.mark.parametrize(
    ("metrics", "params", "tags", "statements"),
    [
        (0, 0, 0, 0),
        (1, 0, 0, 1),
        (1000, 0, 0, 1),
        (1001, 0, 0, 2),
        (2500, 0, 0, 3),
        (800, 100, 100, 1),
        (801, 100, 100, 2),
        (0, 250, 10, 3),
        (5, 5, 301, 4),
    ],
)
def test_batches_are_split_by_mlflows_limits(
    client: Client, session: Session, metrics: int, params: int, tags: int, statements: int
) -> None:
    """Batches need as few statements as MLflow's limits allow, and keep their order."""
    run_id = client.create_run("1")["info"]["run_id"]
    logged = client.log_batch(
        run_id,
        (Metric("loss", float(n), n, n) for n in range(metrics)),
        {f"p{n}": n for n in range(params)},
        {f"t{n}": n for n in range(tags)},
    )
    run = session.mlflow.runs[run_id]
    assert logged == statements
    assert [metric["step"] for metric in run["metrics"]] == list(range(metrics))
    assert run["params"] == {f"p{n}": str(n) for n in range(params)}
    assert len(run["tags"]) == tags + 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_beyond_json(client: Client, session: Session, value: float) -> None:
    """NaN and infinities arrive as the words that MLflow reads, in single calls and in batches."""
    run_id = client.create_run("1")["info"]["run_id"]
    client.log_metric(run_id, "loss", value)
    client.log_batch(run_id, [Metric("loss", value, 1)])
    for metric in session.mlflow.runs[run_id]["metrics"]:
        assert isinstance(metric["value"], str)
        assert float(metric["value"]) == value or math.isnan(value)


def test_mlflows_refusal_is_an_error(client: Client) -> None:
    """MLflow's refusal is raised with its code and message."""
    with pytest.raises(MlflowRefusedError, match="RESOURCE_DOES_NOT_EXIST: no such run") as caught:
        client.update_run("none", "FINISHED")
    assert caught.value.code == "RESOURCE_DOES_NOT_EXIST"


@pytest.mark.parametrize("answer", ["", "[]", "null", "{}", '{"body": 5}', "__import__('os')"])
def test_results_are_parsed_and_never_evaluated(
    client: Client, session: Session, answer: str
) -> None:
    """A result that is not a reply of the bridge is refused, and nothing in it is evaluated."""
    session.answer = answer
    with pytest.raises(BridgeError, match="it is not the function that"):
        client.experiment("x")


def test_the_generic_call_is_guarded(client: Client) -> None:
    """A path that the translator does not list is refused in one sentence."""
    with pytest.raises(BridgeError, match="is not one of those that may be called"):
        client.call("experiments/delete", {"experiment_id": "1"})


def test_functions_are_below_mlflows_api() -> None:
    """The prefix ends with a slash, so that it matches no other API of the server."""
    assert API_PATH.endswith("/mlflow/")
