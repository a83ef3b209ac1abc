"""The translators, in JavaScript engines: by table and by property."""

import json
import math
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_connections_snowflake._functions import CALL_PATHS, FUNCTIONS, RESPONSE, source

# The engine outlives every example; Hypothesis warns only about function-scoped fixtures.
several = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# A lone surrogate is no Unicode text: no SQL statement can carry one.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)

HOSTILE = (
    "it's",
    'say "no"',
    "'; DROP TABLE runs; --",
    "$$",
    "a\\",
    "\\'",
    "line\nbreak\r\n\ttab",
    "{'a': __import__('os')}",
    "\u00fcn\u00efc\u00f6de \u6771\u4eac \U0001f680",
    "\u2028\u2029",
    "${x} #{y} %s {0}",
    "</script>",
    "NULL",
    "",
)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("key", ["run_log_parameter", "run_set_tag"])
def test_texts_arrive_byte_for_byte(engine: Any, key: str, text: str) -> None:
    """A hostile run ID, key or value changes nothing but itself."""
    sent = engine.request(key, [0, text, text, text])
    assert sent["body"] == {"run_id": text, "key": text, "value": text}


@several
@given(run=texts, key=texts, value=texts)
def test_any_text_arrives_byte_for_byte(engine: Any, run: str, key: str, value: str) -> None:
    """MLflow receives exactly the given texts."""
    sent = engine.request("run_log_parameter", [0, run, key, value])
    assert sent["body"] == {"run_id": run, "key": key, "value": value}


@several
@given(
    numbers=st.lists(st.integers(0, 10**6), min_size=1, max_size=40, unique=True),
    reply=st.dictionaries(texts, texts | st.integers(-9, 9) | st.none(), max_size=4),
)
def test_rows_keep_their_numbers_and_order(
    engine: Any, numbers: list[int], reply: dict[str, Any]
) -> None:
    """However Snowflake numbers and shuffles rows, each is answered under its number, in its place."""
    reply.pop("error_code", None)
    rows = [[number, "run", f"m{number}", 1.5, 1000 + number, 0] for number in numbers]
    sent = engine.request("run_log_metrics", *rows)
    assert [metric["key"] for metric in sent["body"]["metrics"]] == [f"m{n}" for n in numbers]
    answered = engine.response(reply, sent["translatorData"])
    assert answered == [[number, {"body": reply}] for number in numbers]


@several
@given(value=st.floats())
def test_every_number_arrives_unchanged(engine: Any, value: float) -> None:
    """A metric's value is the same double for MLflow, NaN and infinities included."""
    plain = value if math.isfinite(value) else str(value)
    sent = engine.request("run_log_metric", [0, "run", "loss", plain, 1, 0])["body"]["value"]
    arrived = float(sent)
    assert arrived == value or (math.isnan(arrived) and math.isnan(value))


@pytest.mark.parametrize(
    ("given_value", "sent"),
    [
        (None, "NaN"),
        ("NaN", "NaN"),
        ("nan", "NaN"),
        ("inf", "Infinity"),
        ("+Infinity", "Infinity"),
        ("-inf", "-Infinity"),
        ("1e3", 1000),
        (True, 1),
        (False, 0),
        (0, 0),
    ],
)
def test_values_that_json_cannot_hold(engine: Any, given_value: object, sent: object) -> None:
    """NULL and the words for NaN and infinity become the words that MLflow reads."""
    body = engine.request("run_log_metric", [0, "run", "loss", given_value])["body"]
    assert body["value"] == sent
    assert isinstance(body["value"], bool) is False


@pytest.mark.parametrize("value", ["abc", "", " ", "0x", [1], {"a": 1}])
def test_values_that_are_not_numbers_are_refused(engine: Any, value: object) -> None:
    """A value that is not a number is refused in a sentence that shows it."""
    with pytest.raises(Exception, match="a metric's value must be a number, not "):
        engine.request("run_log_metric", [0, "run", "loss", value])


def test_short_forms_use_the_current_time(engine: Any) -> None:
    """Without a time, a run starts and ends, and a metric is logged, now and not in 1970."""
    before = time.time() * 1000 - 1
    metric = engine.request("run_log_metric", [0, "run", "loss", 0.5])["body"]
    run = engine.request("run_create", [0, 1])["body"]
    end = engine.request("run_update", [0, "run", "FINISHED"])["body"]
    after = time.time() * 1000 + 1
    for moment in (metric["timestamp"], run["start_time"], end["end_time"]):
        assert before <= moment <= after
    assert metric["step"] == 0


def test_a_number_becomes_the_text_that_mlflow_requires(engine: Any) -> None:
    """An experiment ID that SQL passes as a number is sent as text, which MLflow requires."""
    assert engine.request("run_create", [0, 42])["body"]["experiment_id"] == "42"
    assert engine.request("run_log_parameter", [0, "r", "k", 0.1])["body"]["value"] == "0.1"


@pytest.mark.parametrize(
    "tags", [{"a": "1", "b": 2}, '{"a": "1", "b": 2}', '"{\\"a\\": 1, \\"b\\": 2}"']
)
def test_variants_that_come_as_text(engine: Any, tags: object) -> None:
    """A VARIANT is accepted as JSON, as JSON text, and as text within JSON text."""
    body = engine.request("run_create", [0, "1", "name", 5, tags])["body"]
    assert body["tags"] == [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}]
    assert (body["run_name"], body["start_time"]) == ("name", 5)


@pytest.mark.parametrize(
    ("status", "ends"),
    [
        ("RUNNING", False),
        ("SCHEDULED", False),
        ("FINISHED", True),
        ("failed", True),
        ("KILLED", True),
    ],
)
def test_statuses(engine: Any, status: str, ends: bool) -> None:
    """Each status of MLflow is passed on, and a final status sets the run's end."""
    body = engine.request("run_update", [0, "run", status])["body"]
    assert body["status"] == status.upper()
    assert ("end_time" in body) is ends


@pytest.mark.parametrize("status", ["DONE", "", "constructor", "finished "])
def test_an_unknown_status_is_refused(engine: Any, status: str) -> None:
    """MLflow would return 200 and ignore an unknown status, so it is refused before."""
    with pytest.raises(Exception, match="status must be one of RUNNING, SCHEDULED, FINISHED"):
        engine.request("run_update", [0, "run", status])


@pytest.mark.parametrize("moment", [1.5, "soon", 2**53, True])
def test_times_are_whole_milliseconds(engine: Any, moment: object) -> None:
    """A time that is not a whole number of milliseconds is refused, not rounded."""
    with pytest.raises(Exception, match="end_time must be a whole number, not "):
        engine.request("run_update", [0, "run", "FINISHED", moment])


def test_mixed_runs_are_refused(engine: Any) -> None:
    """Rows of two runs cannot share one request, and neither run gets the other's metrics."""
    with pytest.raises(Exception, match="must belong to one run"):
        engine.request("run_log_metrics", [0, "a", "k", 1, 1, 0], [1, "b", "k", 1, 1, 0])


def test_a_batch_beyond_mlflows_limit_is_refused(engine: Any) -> None:
    """A thousand metrics fit into a request, one more does not."""
    rows = [[n, "run", "k", n, n, n] for n in range(1001)]
    assert len(engine.request("run_log_metrics", *rows[:1000])["body"]["metrics"]) == 1000
    with pytest.raises(Exception, match="MLflow takes 1000 metrics a request, this batch has 1001"):
        engine.request("run_log_metrics", *rows)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"metrics": [{"key": "k", "value": 1}] * 1001}, "takes 1000 metrics .* 1001: split it"),
        ({"params": {str(n): n for n in range(101)}}, "takes 100 params .* 101: split it"),
        ({"tags": {str(n): n for n in range(101)}}, "takes 100 tags .* 101: split it"),
        (
            {"metrics": [{"key": "k", "value": 1}] * 950, "params": {str(n): n for n in range(51)}},
            "metrics, params and tags together, payload has 1001: split it",
        ),
        ({"metric": []}, "may hold metrics, params and tags, not metric"),
        ({"metrics": {"k": 1}}, "metrics must be an array of"),
        ({"params": [1]}, "params must be an object or an array of"),
        ({"params": {"a": None}}, "a value in params is NULL"),
        ([], "payload must be an object"),
        ("text", "payload must be an object"),
        (None, "payload must be an object"),
    ],
)
def test_payloads_that_mlflow_would_refuse(engine: Any, payload: object, message: str) -> None:
    """A payload beyond a limit or of a wrong form is refused with a remedy."""
    with pytest.raises(Exception, match=message):
        engine.request("run_log_batch", [0, "run", payload])


@several
@given(
    metrics=st.lists(
        st.fixed_dictionaries(
            {
                "key": texts,
                "value": st.floats(allow_nan=False, allow_infinity=False),
                "timestamp": st.integers(0, 2**53 - 1),
                "step": st.integers(-(2**53) + 1, 2**53 - 1),
            }
        ),
        max_size=8,
    ),
    params=st.dictionaries(texts, texts, max_size=8),
    as_text=st.booleans(),
)
def test_a_payload_arrives_complete(
    engine: Any, metrics: list[dict[str, Any]], params: dict[str, str], as_text: bool
) -> None:
    """Metrics, steps, times and params arrive in order, however SQL passes a VARIANT."""
    payload: object = {"metrics": metrics, "params": params}
    sent = engine.request("run_log_batch", [0, "run", json.dumps(payload) if as_text else payload])
    # JavaScript writes a large double without its point; MLflow reads a double either way.
    arrived = [{**metric, "value": float(metric["value"])} for metric in sent["body"]["metrics"]]
    assert arrived == metrics
    # JavaScript puts keys that look like numbers first; params have no order in MLflow.
    assert {pair["key"]: pair["value"] for pair in sent["body"]["params"]} == params
    assert sent["body"]["tags"] == []


@pytest.mark.parametrize("name", [*HOSTILE, "demo-mlops", "100%_sure"])
def test_experiments_are_found_by_their_exact_name(engine: Any, name: str) -> None:
    """A quote cannot end the filter's literal, and other matches of a wildcard are dropped."""
    sent = engine.request("experiment_get_by_name", [7, name])
    literal = sent["body"]["filter"].partition("'")[2]
    assert literal.endswith("'")
    assert not set(literal[:-1]) & set("'\"\\")
    found = {"experiments": [{"name": name + "x"}, {"name": name, "experiment_id": "3"}]}
    [[number, value]] = engine.response(found, sent["translatorData"])
    assert number == 7
    assert value["body"]["experiments"] == [{"name": name, "experiment_id": "3"}]


def test_an_unknown_experiment_is_an_empty_list(engine: Any) -> None:
    """MLflow omits an empty list; the path in SQL then returns NULL."""
    sent = engine.request("experiment_get_by_name", [0, "x"])
    assert engine.response({}, sent["translatorData"]) == [[0, {"body": {"experiments": []}}]]


def test_a_search_is_passed_on(engine: Any) -> None:
    """A search accepts its experiments and order as arrays or as single values."""
    long = engine.request("run_search", [0, '["1", 2]', "metrics.a > 1", 5, '["a DESC"]', "tok"])
    assert long["body"] == {
        "experiment_ids": ["1", "2"],
        "filter": "metrics.a > 1",
        "run_view_type": "ACTIVE_ONLY",
        "max_results": 5,
        "order_by": ["a DESC"],
        "page_token": "tok",
    }
    short = engine.request("run_search", [0, "1", None])["body"]
    assert (short["experiment_ids"], short["filter"], short["max_results"]) == (["1"], "", 100)


@pytest.mark.parametrize("path", CALL_PATHS)
def test_the_generic_call_reaches_allowed_paths(engine: Any, path: str) -> None:
    """Each allowed path is appended to the function's URL, with an unchanged body."""
    sent = engine.request("call", [0, path, '{"a": [1, "x"]}'])
    assert (sent["urlSuffix"], sent["body"]) == (path, {"a": [1, "x"]})


@pytest.mark.parametrize(
    "path",
    [
        "experiments/delete",
        "runs/create/../../../admin",
        "/runs/create",
        "runs/create?x=1",
        "runs/create ",
        "RUNS/CREATE",
        "length",
        "0",
        "",
    ],
)
def test_the_generic_call_reaches_no_other_path(engine: Any, path: str) -> None:
    """Any other path is refused before a request is sent."""
    with pytest.raises(Exception, match="is not one of those that may be called"):
        engine.request("call", [0, path, {}])


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.key)
def test_one_row_per_request(engine: Any, function: Any) -> None:
    """A function limited to one row per request refuses two, because only one would be answered."""
    row = ["run", "k", 1, 1, 0]
    if function.rows == 1:
        with pytest.raises(Exception, match="takes one row a request, it was sent 2"):
            engine.request(function.key, [0, *row], [1, *row])
    else:
        assert engine.request(function.key, [0, *row], [1, *row])["translatorData"]["rows"] == [
            0,
            1,
        ]


@pytest.mark.parametrize("key", ["run_log_parameter", "run_set_tag", "run_log_metric"])
def test_null_is_refused_if_text_is_needed(engine: Any, key: str) -> None:
    """A NULL run ID is reported, rather than sent to MLflow as the text null."""
    with pytest.raises(Exception, match="run_id is NULL"):
        engine.request(key, [0, None, "k", "1"])


def test_mlflows_refusal_is_passed_on(engine: Any) -> None:
    """MLflow's error code and message reach the caller unchanged, quotes included."""
    body = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No run with id='it\"s'"}
    with pytest.raises(
        Exception, match="MLflow refused: RESOURCE_DOES_NOT_EXIST: No run with id='it\"s'"
    ):
        engine.response(body, {"rows": [0]})


def test_a_page_instead_of_json_is_one_sentence(engine: Any) -> None:
    """HTML is recognized, and quoted without its tags and shortened."""
    page = "<html><body><h1>502</h1>Bad\n gateway" + "x" * 5000
    with pytest.raises(Exception, match="text instead of MLflow's JSON: 502 Bad gateway") as caught:
        engine.response(page, {"rows": [0]})
    assert len(str(caught.value).splitlines()[0]) < 400


@pytest.mark.parametrize("body", [{}, "", None, "{}"])
def test_an_empty_reply_is_an_empty_object(engine: Any, body: object) -> None:
    """MLflow returns an empty object for a mere write; a gateway may turn it into nothing."""
    assert engine.response(body, {"rows": [3]}) == [[3, {"body": {}}]]


@pytest.mark.parametrize("key", [*(function.key for function in FUNCTIONS), RESPONSE])
def test_sources_fit_into_a_statement(key: str) -> None:
    """Each translator keeps the surrounding statement intact, and is far below Snowflake's 100 KB."""
    text = source(key)
    assert "$$" not in text
    assert len(text.encode()) < 50_000
    assert text.isascii()
