"""The stand-in of Snowflake in front of a server that echoes its requests."""

import copy
import json
import shutil
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


class StartedAccount:
    """A started account with short time limits, which can be emptied, in front of a server.

    Attributes:
        owner: The test function that uses it.
        upstream: The server in place of MLflow.
        stand_in: The account.
    """

    def __init__(self, owner: object, folder: Path) -> None:
        self.owner = owner
        self.upstream = Upstream()
        self._thread = threading.Thread(target=self.upstream.serve_forever, daemon=True)
        self._thread.start()
        self.stand_in = Snowflake(self.upstream.url, folder / "snowflake")
        self.stand_in.policy.retry_seconds = 0.3
        self.stand_in.start()
        account = self.stand_in.account
        changed: list[tuple[object, tuple[str, ...]]] = [
            (account.catalog, ("_entries",)),
            (account.access, ("roles", "users", "granted", "future")),
            (account.clouds, ("trust_all", "_trusted")),
            (account.assumptions, tuple(vars(account.assumptions))),
            (self.stand_in.policy, tuple(vars(self.stand_in.policy))),
            *((gateway, _OF_GATEWAYS) for gateway in self.stand_in.gateways.values()),
        ]
        self._empty = [
            (one, copy.deepcopy({name: vars(one)[name] for name in names}))
            for one, names in changed
        ]

    def empty(self, artifacts: Path) -> None:
        """Remove what a test has created, except tables, and give the account a folder of artifacts."""
        for one, attributes in self._empty:
            vars(one).update(copy.deepcopy(attributes))
        for gateway in self.stand_in.gateways.values():
            gateway.faults.clear()
        stages = self.stand_in.account.stages
        shutil.rmtree(stages.root, ignore_errors=True)
        stages.buckets = dict.fromkeys(stages.buckets, artifacts)
        self.stand_in.account.external_functions.remote.deliveries.clear()
        self.upstream.seen.clear()

    def close(self) -> None:
        """Stop both servers."""
        self.stand_in.close()
        self.upstream.shutdown()
        self.upstream.server_close()
        self._thread.join()


_OF_GATEWAYS = ("credentials", "remaps_authorization", "expired", "api_key", "operations", "polls")


@pytest.fixture(scope="session")
def started_accounts() -> Iterator[list[StartedAccount]]:
    """The account of the previous test, if any."""
    started: list[StartedAccount] = []
    yield started
    for each in started:
        each.close()


@pytest.fixture
def started(
    started_accounts: list[StartedAccount],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
) -> StartedAccount:
    """An empty account, which the cases of a parametrized test share: a new one takes 0.1 s of CPU."""
    if not started_accounts or started_accounts[0].owner is not request.function:
        while started_accounts:
            started_accounts.pop().close()
        folder = tmp_path_factory.mktemp("account")
        started_accounts.append(StartedAccount(request.function, folder))
    started_accounts[0].empty(tmp_path / "artifacts")
    return started_accounts[0]


@pytest.fixture
def upstream(started: StartedAccount) -> Upstream:
    """A server in place of MLflow."""
    return started.upstream


@pytest.fixture
def stand_in(started: StartedAccount) -> Snowflake:
    """A started, empty account with short time limits."""
    return started.stand_in


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
