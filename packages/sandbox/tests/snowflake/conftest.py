"""The stand-in of Snowflake in front of a server that echoes its requests."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import snowflake.connector

from mlflow_connections_sandbox._snowflake import Snowflake

INTEGRATION = (
    "CREATE API INTEGRATION MLFLOW_API API_PROVIDER = aws_api_gateway"
    " API_AWS_ROLE_ARN = 'arn:aws:iam::123456789012:role/mlflow'"
    " API_ALLOWED_PREFIXES = ('https://sandbox.execute-api.eu-central-1.amazonaws.com/prod/api/')"
    " ENABLED = TRUE"
)
REQUEST = (
    "CREATE FUNCTION REQUEST(EVENT OBJECT) RETURNS OBJECT LANGUAGE JAVASCRIPT AS $$"
    " return {body: {rows: EVENT.body.data}, translatorData: EVENT.body.data.map((r) => r[0])};$$"
)
RESPONSE = (
    "CREATE FUNCTION RESPONSE(EVENT OBJECT) RETURNS OBJECT LANGUAGE JAVASCRIPT AS $$"
    " const rows = EVENT.body.asked ? EVENT.body.asked.rows : [];"
    " return {body: {data: EVENT.translatorData.map((n, i) => [n, {row: rows[i]}])}};$$"
)
URL = "https://sandbox.execute-api.eu-central-1.amazonaws.com/prod/api/echo"


def echo(arguments: str, clauses: str = "COMPRESSION = NONE", name: str = "ECHO") -> str:
    """Return the DDL of an external function whose value contains the row that reached the server."""
    return (
        f"CREATE EXTERNAL FUNCTION {name}({arguments}) RETURNS VARIANT"
        f" API_INTEGRATION = MLFLOW_API {clauses} REQUEST_TRANSLATOR = REQUEST"
        f" RESPONSE_TRANSLATOR = RESPONSE AS '{URL}'"
    )


class Upstream(ThreadingHTTPServer):
    """Responds with `{"asked": <the body>}`, and records each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[dict[str, str], Any]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {k.lower(): v for k, v in self.headers.items()}
        try:
            asked = json.loads(body)
        except ValueError:
            asked = None
        self.server.seen.append((headers, asked))
        status = 400 if asked is None else 200
        answer = json.dumps({"asked": asked}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base names it so
        pass


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A server in place of MLflow."""
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def stand_in(upstream: Upstream, tmp_path: Path) -> Iterator[Snowflake]:
    """A started, empty account with short time limits."""
    made = Snowflake(upstream.url, tmp_path / "snowflake", tmp_path / "artifacts")
    made.policy.retry_seconds = 0.3
    made.start()
    yield made
    made.close()


Run = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def run(stand_in: Snowflake) -> Iterator[Run]:
    """Execute a statement with the real connector, and return its rows."""
    with snowflake.connector.connect(**stand_in.connection(), paramstyle="qmark") as connection:

        def execute(sql: str, *values: Any) -> list[tuple[Any, ...]]:
            rows: Any = connection.cursor().execute(sql, values or None)
            return list(rows.fetchall())

        yield execute


@pytest.fixture
def bridge(stand_in: Snowflake, run: Run) -> Snowflake:
    """An account with a trusted integration and both translators."""
    for sql in (INTEGRATION, REQUEST, RESPONSE):
        run(sql)
    stand_in.trust("MLFLOW_API")
    return stand_in


@pytest.fixture(name="echo")
def echo_fixture() -> Callable[..., str]:
    """Return the function that writes the DDL of echoing external functions."""
    return echo
