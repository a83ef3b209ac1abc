"""The contract of external functions, over real HTTP through a gateway."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
import snowflake.connector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snowflake.connector.errors import DatabaseError, ProgrammingError

from mlflow_connections_sandbox import Fault
from mlflow_connections_sandbox._snowflake import BASES, Snowflake

Run = Callable[..., list[tuple[Any, ...]]]
Echo = Callable[..., str]

PATIENT = 30.0
"""Seconds: the first request of a busy machine may take longer than the usual limit of this folder."""


_ROLE = "arn:aws:iam::123456789012:role/mlflow"
_GUID = "01234567-89ab-cdef-0123-456789abcdef"
INTEGRATIONS = {
    provider: f"CREATE API INTEGRATION OTHER_API {clauses} API_ALLOWED_PREFIXES = ('{BASES[provider]}/')"
    " ENABLED = TRUE"
    for provider, clauses in {
        "aws": f"API_PROVIDER = aws_api_gateway API_AWS_ROLE_ARN = '{_ROLE}'",
        "azure": "API_PROVIDER = azure_api_management"
        f" AZURE_TENANT_ID = '{_GUID}' AZURE_AD_APPLICATION_ID = '{_GUID}'",
        "google": "API_PROVIDER = google_api_gateway GOOGLE_AUDIENCE = 'audience'",
    }.items()
}


def test_a_call_has_snowflakes_headers(
    bridge: Snowflake, run: Run, echo: Echo, upstream: Any
) -> None:
    """HEADERS arrive as sf-custom-*, context as sf-context-*, and the identity ends at the gateway."""
    clauses = "HEADERS = ('team-id' = 'x') CONTEXT_HEADERS = (CURRENT_USER) COMPRESSION = NONE"
    run(echo("a VARCHAR, n NUMBER", clauses))
    bridge.gateways["aws"].credentials = {"Authorization": "Basic bWxmbG93"}
    bridge.gateways["aws"].remaps_authorization = False
    assert json.loads(run("SELECT echo('it''s', 7)")[0][0]) == {"row": [0, "it's", 7]}
    headers, _ = upstream.seen[0]
    assert headers["sf-custom-team-id"] == "x"
    assert headers["sf-context-current-user"] == "SANDBOX"
    assert headers["sf-external-function-name"] == "ECHO"
    assert headers["sf-external-function-signature"] == "(A VARCHAR, N NUMBER(38,0))"
    assert headers["sf-external-function-return-type"] == "VARIANT"
    assert headers["sf-external-function-format"] == "json"
    assert headers["sf-external-function-current-query-id"]
    assert headers["authorization"] == "Basic bWxmbG93"


@pytest.mark.parametrize(
    ("kind", "expression", "sent"),
    [
        ("VARCHAR", "'x'", "x"),
        ("VARCHAR", "NULL", None),
        ("VARCHAR", "12", "12"),
        ("NUMBER", "'12'", 12),
        ("NUMBER(10, 2)", "1.25", 1.25),
        ("FLOAT", "1e-7", 1e-7),
        ("FLOAT", "'NaN'", "NaN"),
        ("FLOAT", "'-inf'", "-inf"),
        ("BOOLEAN", "TRUE", True),
        ("OBJECT", "OBJECT_CONSTRUCT('k', 'v')", {"k": "v"}),
        ("OBJECT", "PARSE_JSON('{\"a\": [1, null]}')", {"a": [1, None]}),
        ("VARIANT", "PARSE_JSON('{\"a\": 1}')", '{"a":1}'),
        ("ARRAY", "PARSE_JSON('[1, 2]')", "[1,2]"),
    ],
)
def test_values_travel_by_their_declared_type(
    bridge: Snowflake, run: Run, echo: Echo, kind: str, expression: str, sent: Any
) -> None:
    """Numbers, booleans, texts and objects are native JSON; every other type is a JSON text."""
    run(echo(f"a {kind}"))
    row = json.loads(run(f"SELECT echo({expression})")[0][0])["row"]
    assert row == [0, sent]
    assert type(row[1]) is type(sent)


@pytest.mark.parametrize(
    ("kind", "expression", "number"),
    [
        ("NUMBER", "'x'", 100038),
        ("FLOAT", "'x'", 100038),
        ("BOOLEAN", "'x'", 100037),
        ("OBJECT", "'{}'", 1044),
        ("OBJECT", "PARSE_JSON('[]')", 1044),
        ("ARRAY", "PARSE_JSON('{}')", 1044),
        ("VARCHAR", "'x', 'y'", 1044),
    ],
)
def test_values_of_another_type_are_refused(
    bridge: Snowflake, run: Run, echo: Echo, kind: str, expression: str, number: int
) -> None:
    """An argument that cannot be converted to the declared type fails the statement, and nothing is sent."""
    run(echo(f"a {kind}"))
    with pytest.raises(DatabaseError) as refused:
        run(f"SELECT echo({expression})")
    assert refused.value.errno == number
    assert bridge.deliveries == []


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_texts_arrive_byte_for_byte(text: str, run: Run, once: None) -> None:
    """A bound text and the same text as a literal both reach the remote service unchanged."""
    bound = json.loads(run("SELECT echo(?)", text)[0][0])["row"][1]
    literal = text.replace("\\", "\\\\").replace("'", "''")
    written = json.loads(run(f"SELECT echo('{literal}')")[0][0])["row"][1]
    assert bound == text
    assert written == text


@pytest.fixture
def once(bridge: Snowflake, run: Run, echo: Echo) -> None:
    """ECHO of one text exists."""
    run(echo("a VARCHAR"))


def test_rows_are_batched_in_any_order(bridge: Snowflake, run: Run, echo: Echo) -> None:
    """MAX_BATCH_ROWS is never exceeded, rows are shuffled, and each row gets its own value."""
    run(echo("a NUMBER", "MAX_BATCH_ROWS = 100 COMPRESSION = NONE"))
    run("CREATE TABLE t (a INT)")
    run("INSERT INTO t SELECT seq4() FROM TABLE(GENERATOR(ROWCOUNT => 250))")
    rows = run("SELECT a, echo(a):row[1]::INT FROM t")
    assert len(rows) == 250
    assert all(a == value for a, value in rows)
    assert sorted(d.rows for d in bridge.deliveries) == [50, 100, 100]


def test_overloads_are_selected_by_number_of_arguments(
    bridge: Snowflake, run: Run, echo: Echo
) -> None:
    """Functions of one name with different numbers of arguments coexist."""
    run(echo("a VARCHAR"))
    run(echo("a VARCHAR, b VARCHAR"))
    assert json.loads(run("SELECT echo('x')")[0][0])["row"] == [0, "x"]
    assert json.loads(run("SELECT echo('x', 'y')")[0][0])["row"] == [0, "x", "y"]


def test_calls_nest_anywhere(bridge: Snowflake, run: Run, echo: Echo) -> None:
    """A call may be another call's argument, or part of a condition."""
    run(echo("a VARCHAR"))
    nested = run(
        'SELECT demo.demo.echo("DEMO"."DEMO"."ECHO"(\'x\'):row[1]::VARCHAR):row[1]::VARCHAR'
    )
    assert nested == [("x",)]
    assert run("SELECT 1 WHERE echo('x'):row[1]::VARCHAR = 'x'") == [(1,)]


def test_a_strict_function_is_not_called_for_null(bridge: Snowflake, run: Run, echo: Echo) -> None:
    """With STRICT a row with NULL gets NULL, and is not sent."""
    run(echo("a VARCHAR", "STRICT COMPRESSION = NONE"))
    assert run("SELECT echo(NULL)") == [(None,)]
    assert bridge.deliveries == []


def test_compression_is_automatic_on_aws(bridge: Snowflake, run: Run, echo: Echo) -> None:
    """Without COMPRESSION = NONE the body is gzip, and a server that does not decompress it returns 400."""
    run(echo("a VARCHAR", "COMPRESSION = AUTO"))
    with pytest.raises(DatabaseError, match="400"):
        run("SELECT echo('x')")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut=True, times=1),
        Fault(status=503, body="<html>", content_type="text/html", times=1),
        Fault(status=429, times=1),
        Fault(truncate=0, times=1),
    ],
)
def test_transient_failures_are_retried(
    bridge: Snowflake, run: Run, echo: Echo, fault: Fault
) -> None:
    """Transport errors, 429 and 5xx are sent again with the same batch ID."""
    run(echo("a VARCHAR"))
    bridge.policy.retry_seconds = PATIENT
    bridge.gateways["aws"].faults.inject(fault)
    run("SELECT echo('x')")
    assert len(bridge.deliveries) == 2
    assert len({d.batch for d in bridge.deliveries}) == 1


def test_a_lost_reply_was_processed(bridge: Snowflake, run: Run, echo: Echo, upstream: Any) -> None:
    """If a reply is lost in transit, the remote service receives the rows twice."""
    run(echo("a VARCHAR"))
    bridge.policy.retry_seconds = PATIENT
    bridge.gateways["aws"].faults.inject(Fault(truncate=0, times=1))
    run("SELECT echo('x')")
    ids = [h["sf-external-function-query-batch-id"] for h, _ in upstream.seen]
    assert len(ids) == 2
    assert ids[0] == ids[1]


def test_a_batch_can_be_delivered_twice(
    bridge: Snowflake, run: Run, echo: Echo, upstream: Any
) -> None:
    """Snowflake may deliver a batch once more although it has the reply."""
    run(echo("a VARCHAR"))
    bridge.policy.faults.append("duplicate")
    run("SELECT echo('x')")
    assert len(upstream.seen) == 2
    run("SELECT echo('x')")
    assert len(upstream.seen) == 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(cut=True), "Could not connect"),
        (Fault(status=500, body="boom"), "500 'boom'"),
        (
            Fault(status=200, body="<html>", content_type="text/html"),
            "Error parsing JSON response for external function",
        ),
        (Fault(status=403, body="no"), "403 'no'"),
        (Fault(status=201, body="{}"), "201"),
        (Fault(status=302, headers=(("Location", "https://x.example/"),)), "302"),
        (Fault(status=200, body=f'"{"x" * 11_000_000}"'), "10 MB"),
    ],
)
def test_lasting_failures_name_the_batch(
    bridge: Snowflake, run: Run, echo: Echo, fault: Fault, words: str
) -> None:
    """A lasting failure ends the statement with Snowflake's text and the batch ID."""
    run(echo("a VARCHAR"))
    bridge.gateways["aws"].faults.inject(fault)
    with pytest.raises(DatabaseError) as failed:
        run("SELECT echo('x')")
    assert failed.value.errno == 100351
    assert words in str(failed.value)
    assert bridge.deliveries[-1].batch in str(failed.value)


def test_a_slow_gateway_times_out(bridge: Snowflake, run: Run, echo: Echo) -> None:
    """A reply that does not arrive in time is an error, not an endless wait."""
    run(echo("a VARCHAR"))
    bridge.policy.timeout = 0.2
    bridge.gateways["aws"].faults.inject(Fault(delay=1.0))
    with pytest.raises(DatabaseError, match="Timeout"):
        run("SELECT echo('x')")


@pytest.mark.parametrize(
    ("fault", "words"), [("row_count", "number of rows"), ("row_numbers", "row number 1")]
)
def test_wrong_rows_are_refused(
    bridge: Snowflake, run: Run, echo: Echo, fault: str, words: str
) -> None:
    """A reply with too few rows, or with other numbers, ends the statement."""
    run(echo("a VARCHAR"))
    bridge.policy.faults.append(fault)
    with pytest.raises(DatabaseError, match=words):
        run("SELECT echo('x')")


@pytest.mark.parametrize(
    ("provider", "url", "answer"),
    [
        ("aws", BASES["aws"], '403 \'{"message":"The security token included'),
        ("azure", BASES["azure"], '401 \'{"statusCode":401,"message":"Invalid JWT."}\''),
        ("google", BASES["google"], '401 \'{"message":"Jwt verification fails"'),
    ],
)
def test_a_refusal_of_the_gateway_itself_has_its_own_form(
    bridge: Snowflake, run: Run, echo: Echo, provider: str, url: str, answer: str
) -> None:
    """Its text begins with Error, whereas a refusal of the service behind it has "remote service error"."""
    run(INTEGRATIONS[provider])
    bridge.trust("OTHER_API")
    sql = echo("a VARCHAR").replace("MLFLOW_API", "OTHER_API")
    run(f"{sql.rpartition(' AS ')[0]} AS '{url}/api/echo'")
    bridge.gateways[provider].expired = True
    with pytest.raises(DatabaseError) as failed:
        run("SELECT echo('x')")
    assert f"Request failed for external function ECHO. Error: {answer}" in str(failed.value)
    assert "remote service" not in str(failed.value)
    bridge.gateways[provider].expired = False
    bridge.gateways[provider].faults.inject(Fault(status=403, body="MLflow says no"))
    with pytest.raises(DatabaseError, match="with remote service error: 403 'MLflow says no'"):
        run("SELECT echo('x')")


def test_amazon_may_remap_an_injected_authorization(
    bridge: Snowflake, run: Run, echo: Echo, upstream: Any
) -> None:
    """A static Authorization reaches MLflow only under another name; other headers stay."""
    run(echo("a VARCHAR"))
    gateway = bridge.gateways["aws"]
    gateway.credentials = {"Authorization": "Basic x", "x-mlflow-token": "y"}
    assert [name for name, one in bridge.gateways.items() if one.remaps_authorization] == ["aws"]
    run("SELECT echo('x')")
    headers, _ = upstream.seen[0]
    assert "authorization" not in headers
    assert headers["x-amzn-remapped-authorization"] == "Basic x"
    assert headers["x-mlflow-token"] == "y"


def test_a_slow_service_is_polled(bridge: Snowflake, run: Run, echo: Echo) -> None:
    """After 202, GETs with the same batch ID follow until the reply is available."""
    run(echo("a VARCHAR"))
    bridge.gateways["aws"].polls = 3
    run("SELECT echo('x')")
    assert [(d.method, d.status) for d in bridge.deliveries] == [
        ("POST", 202),
        ("GET", 202),
        ("GET", 202),
        ("GET", 200),
    ]
    assert len({d.batch for d in bridge.deliveries}) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("throw new Error('refused: ' + EVENT.body.data[0][1]);", "refused: x"),
        ("return 7;", "no object"),
        ("return {body: {}, surprise: 1};", "surprise"),
        ("return {body: {}, urlSuffix: '/../../elsewhere', translatorData: null};", "allowed"),
        ("while (true) {}", "interrupted"),
        ("return {body: eval('1')};", "disallowed"),
        ("return {body: (function () {}).constructor('return 1')()};", "disallowed"),
        ("return {body: require('fs')};", "require"),
    ],
)
def test_translators_that_misbehave_are_named(
    bridge: Snowflake, run: Run, echo: Echo, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    """A translator that throws, loops, or uses features that Snowflake lacks ends the statement."""
    monkeypatch.setattr(
        "mlflow_connections_sandbox._snowflake.external._javascript._TIME_LIMIT", 0.2
    )
    run(
        "CREATE OR REPLACE FUNCTION REQUEST(EVENT OBJECT) RETURNS OBJECT"
        f" LANGUAGE JAVASCRIPT AS $${body}$$"
    )
    run(echo("a VARCHAR"))
    with pytest.raises(DatabaseError, match=words):
        run("SELECT echo('x')")


def test_urls_outside_the_integration_are_refused(bridge: Snowflake, run: Run, echo: Echo) -> None:
    """Neither a function's URL nor a translator's suffix can leave the allowed prefixes."""
    outside = echo("a VARCHAR").replace("/prod/api/echo", "/other/api/echo")
    with pytest.raises(ProgrammingError, match="allowed prefixes"):
        run(outside)
    run(echo("a VARCHAR"))
    run("ALTER INTEGRATION MLFLOW_API SET API_ALLOWED_PREFIXES = ('https://other.example/')")
    with pytest.raises(DatabaseError, match="allowed prefixes"):
        run("SELECT echo('x')")
    assert bridge.deliveries == []


def test_a_broken_trust_is_detected(bridge: Snowflake, run: Run, echo: Echo) -> None:
    """After OR REPLACE of the integration the cloud trusts Snowflake only once it is trusted again."""
    run(echo("a VARCHAR"))
    run("SELECT echo('x')")
    integration = bridge.account.catalog.get(("INTEGRATION", ("MLFLOW_API",), None)).properties
    run(
        "CREATE OR REPLACE API INTEGRATION MLFLOW_API API_PROVIDER = aws_api_gateway"
        f" API_AWS_ROLE_ARN = '{integration['API_AWS_ROLE_ARN']}'"
        f" API_ALLOWED_PREFIXES = ('{integration['API_ALLOWED_PREFIXES'][0]}') ENABLED = TRUE"
    )
    with pytest.raises(DatabaseError, match="externalId"):
        run("SELECT echo('x')")
    bridge.trust("MLFLOW_API")
    run("SELECT echo('x')")


def test_dropping_a_dependency_of_a_function_is_detected(
    bridge: Snowflake, run: Run, echo: Echo
) -> None:
    """A function outlives its integration and translators, but does not work without them."""
    run(echo("a VARCHAR"))
    run("DROP FUNCTION RESPONSE(OBJECT)")
    with pytest.raises(ProgrammingError, match="RESPONSE"):
        run("SELECT echo('x')")
    run("DROP INTEGRATION MLFLOW_API")
    with pytest.raises(ProgrammingError, match="MLFLOW_API"):
        run("SELECT echo('x')")


def test_the_gateway_can_require_more(bridge: Snowflake, run: Run, echo: Echo) -> None:
    """A missing API key and an undefined operation are refused with 403."""
    run(echo("a VARCHAR"))
    gateway = bridge.gateways["aws"]
    gateway.api_key = "key"
    with pytest.raises(DatabaseError, match="Forbidden"):
        run("SELECT echo('x')")
    run("ALTER INTEGRATION MLFLOW_API SET API_KEY = 'key'")
    run("SELECT echo('x')")
    gateway.define({"paths": {"/api/other": {"post": {}}}})
    with pytest.raises(DatabaseError, match="Missing Authentication Token"):
        run("SELECT echo('x')")


def test_a_plain_javascript_function_can_be_called(run: Run) -> None:
    """A JavaScript function works like any other function in a query."""
    run("CREATE FUNCTION twice(a FLOAT) RETURNS FLOAT LANGUAGE JAVASCRIPT AS 'return 2 * A;'")
    assert run("SELECT twice(column1) FROM VALUES (1), (2)") == [(2.0,), (4.0,)]


def test_a_request_that_arrives_twice_runs_once(bridge: Snowflake, run: Run, echo: Echo) -> None:
    """A client that lost the response to a statement and sends it again does not run it again."""
    run(echo("a VARCHAR"))
    with snowflake.connector.connect(**bridge.connection()) as connection:
        assert connection.rest is not None
        answers = [
            requests.post(
                f"{bridge.url}/queries/v1/query-request",
                params={"requestId": "one"},
                json={"sqlText": "SELECT echo('x')"},
                headers={"Authorization": f'Snowflake Token="{connection.rest.token}"'},
                timeout=30,
            ).json()
            for _ in range(2)
        ]
    assert answers[0]["success"]
    assert answers[0] == answers[1]
    assert len(bridge.deliveries) == 1


def test_a_long_statement_is_polled(
    bridge: Snowflake, run: Run, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connector polls for a slow statement, which runs once."""
    monkeypatch.setattr("mlflow_connections_sandbox._snowflake._server._PROMPT", 0.1)
    run(echo("a VARCHAR"))
    bridge.gateways["aws"].faults.inject(Fault(delay=0.5, times=1))
    assert json.loads(run("SELECT echo('x')")[0][0])["row"] == [0, "x"]
    assert len(bridge.deliveries) == 1


def test_a_statement_can_be_left_running(bridge: Snowflake, run: Run, echo: Echo) -> None:
    """execute_async returns an ID immediately, with which the result can be fetched later."""
    run(echo("a VARCHAR"))
    with snowflake.connector.connect(**bridge.connection()) as connection:
        cursor = connection.cursor()
        cursor.execute_async("SELECT echo('x')")
        assert cursor.sfqid is not None
        other = connection.cursor()
        other.get_results_from_sfqid(cursor.sfqid)
        rows: Any = other.fetchall()
    assert json.loads(rows[0][0])["row"] == [0, "x"]
