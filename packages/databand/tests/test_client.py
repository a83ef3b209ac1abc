"""Databand's HTTP API: credentials, and the effect of each response."""

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections_databand.sink import DatabandClient, open_sink
from mlflow_connections_outbox import (
    Batch,
    Destination,
    Event,
    Rejected,
    Unauthorized,
    Unavailable,
)

TOKEN = {"DBND__CORE__DATABAND_ACCESS_TOKEN": "t0ken"}


class Server(ThreadingHTTPServer):
    """Responds as a test configures it, and records the requests."""

    status = 200
    body = b"{}"
    headers_to_send: dict[str, str] = {}  # noqa: RUF012 - replaced, never shared

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.accepted: list[bool] = []
        self.fails_at = ""
        self.refuses = ""
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        body = json.loads(gzip.decompress(content)) if content else None
        headers = {k.lower(): v for k, v in self.headers.items()}
        self.server.asked.append((self.path, headers, body))
        status = self.server.status
        if self.server.fails_at and self.path.endswith(self.server.fails_at):
            status = 503
        if self.server.refuses and self.server.refuses in json.dumps(body):
            status = 400
        self.server.accepted.append(status == 200)
        self.send_response(status)
        for name, value in self.server.headers_to_send.items():
            self.send_header(name, value)
        if self.path.endswith("csrf"):
            self.send_header("Set-Cookie", "X-CSRF-TOKEN=c5rf")
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_request_has_dbnds_form(server: Server) -> None:
    """A request is compressed JSON with the token and dbnd's headers."""
    DatabandClient(server.url, TOKEN).post("tracking/heartbeat", {"run_uid": "u"}, 5)
    ((path, headers, body),) = server.asked
    assert (path, body) == ("/api/v1/tracking/heartbeat", {"run_uid": "u"})
    assert headers["authorization"] == "Bearer t0ken"
    assert headers["content-encoding"] == "gzip"
    assert headers["content-type"] == "application/json"
    assert headers["x-databand-version"] == "1.0.34.1"
    assert {"x-request-id", "x-databand-trace-id"} <= headers.keys()


def test_without_a_token_it_logs_in_once(server: Server) -> None:
    """The CSRF token is fetched, and sent with the login and with each call."""
    environ = {"DBND__CORE__DBND_USER": "me", "DBND__CORE__DBND_PASSWORD": "pw"}
    client = DatabandClient(server.url, environ)
    client.post("tracking/a", {}, 5)
    client.post("tracking/b", {}, 5)
    paths = [path.removeprefix("/api/v1/") for path, _, _ in server.asked]
    assert paths == ["auth/csrf", "auth/login", "tracking/a", "tracking/b"]
    assert server.asked[1][2] == {"username": "me", "password": "pw"}
    assert {headers.get("x-csrftoken") for _, headers, _ in server.asked[1:]} == {"c5rf"}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (302, Unavailable),
        (400, Rejected),
        (401, Unauthorized),
        (403, Unauthorized),
        (404, Unavailable),
        (413, Rejected),
        (422, Rejected),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_a_response_determines_the_error(
    status: int, error: type[Exception], server: Server
) -> None:
    """Temporary failures are retried, and permanent ones are not."""
    server.status = status
    with pytest.raises(error) as caught:
        DatabandClient(server.url, TOKEN).post("tracking/a", {}, 5)
    assert type(caught.value) is error
    assert str(status) in str(caught.value)


def test_the_requested_wait_is_passed_on(server: Server) -> None:
    """Retry-After in seconds is kept; a date leaves it to the backoff."""
    server.status = 429
    for text, seconds in (("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None)):
        server.headers_to_send = {"Retry-After": text}
        with pytest.raises(Unavailable) as caught:
            DatabandClient(server.url, TOKEN).post("tracking/a", {}, 5)
        assert caught.value.retry_after == seconds


def test_no_response_is_unavailable() -> None:
    """A missing server is no reason to lose anything."""
    with pytest.raises(Unavailable, match="does not answer"):
        DatabandClient("http://127.0.0.1:9", TOKEN).post("tracking/a", {}, 5)


def test_a_refusal_shows_no_token(server: Server) -> None:
    """A token that the server repeats in its response does not reach a log."""
    server.status, server.body = 400, b"bad: t0ken"
    with pytest.raises(Rejected) as caught:
        DatabandClient(server.url, TOKEN).post("tracking/a", {}, 5)
    assert "t0ken" not in str(caught.value)


def test_a_single_rejected_event_is_named(server: Server, tmp_path: Path) -> None:
    """The outbox sets just that event aside."""
    server.status = 400
    sink = open_sink(Destination("databand", server.url, ""), TOKEN, tmp_path)
    event = Event("r" * 32, "log", 1, {"metrics": [["m", 1.0, 1, 0]]})
    for count in (1, 2):
        rejected: list[int] = []
        batch = Batch([event] * count, on_reject=lambda n, _: rejected.append(n))  # noqa: B023
        sink.send(batch)
        assert rejected == list(range(count))
        assert batch.accepted == count
    sink.close()


@pytest.mark.parametrize(
    ("kind", "body"),
    [("text/html", b"<html>Log in</html>"), ("", b"<!doctype html>"), ("text/plain", b"OK")],
)
def test_a_login_page_is_not_a_delivery(kind: str, body: bytes, server: Server) -> None:
    """Another server that returns 200 in Databand's place accepts nothing: the event is kept."""
    server.body = body
    server.headers_to_send = {"Content-Type": kind} if kind else {}
    with pytest.raises(Unavailable, match="not with JSON"):
        DatabandClient(server.url, TOKEN).post("tracking/a", {}, 5)


def test_an_empty_response_is_a_delivery(server: Server) -> None:
    """Databand's success responses are JSON or empty; dbnd reads neither."""
    server.body = b""
    DatabandClient(server.url, TOKEN).post("tracking/a", {}, 5)
    assert len(server.asked) == 1


def stepped(run: str, step: int) -> Event:
    """Return an event of a run that logs a metric and a dataset, two requests."""
    dataset: dict[str, Any] = {
        "name": f"d{step}",
        "digest": "a",
        "source_type": "local",
        "source": "{}",
        "schema": None,
        "profile": None,
        "tags": {},
    }
    return Event(run * 32, "inputs_logged", 1, {"datasets": [dataset]}, f"{run}{step}")


def delivered(server: Server, endpoint: str) -> list[str]:
    """Return the names of the datasets in requests to an endpoint, in order."""
    rows = {"log_datasets": "datasets_info", "log_metrics": "metrics_info"}[endpoint]
    return [
        str(row.get("dataset_uri") or row["metric"]["key"])
        for path, _, body in server.asked
        if path.endswith(endpoint)
        for row in body[rows]
    ]


def test_only_unaccepted_events_are_sent_again(server: Server, tmp_path: Path) -> None:
    """A batch that failed halfway continues from there, in another process too."""
    events = [stepped("a", step) for step in range(3)]
    destination = Destination("databand", server.url, "")
    server.fails_at = "log_metrics"
    batch = Batch(events)
    with pytest.raises(Unavailable):
        open_sink(destination, TOKEN, tmp_path).send(batch)
    assert batch.accepted == 0
    assert delivered(server, "log_datasets") == ["mlflow:d0@a", "mlflow:d1@a", "mlflow:d2@a"]
    server.asked.clear()
    server.fails_at = ""
    # The outbox may form another batch from the same events.
    for again in ([events[0]], events[1:]):
        open_sink(destination, TOKEN, tmp_path).send(Batch(again))
    assert delivered(server, "log_datasets") == []
    assert delivered(server, "log_metrics") == [f"mlflow.dataset.d{step}" for step in range(3)]
    assert list(tmp_path.iterdir()) == []


def test_a_rejected_row_does_not_repeat_its_neighbours(server: Server, tmp_path: Path) -> None:
    """Of three events in one request the faulty one is set aside, and each other arrives once."""
    events = [stepped("a", step) for step in range(3)]
    server.refuses = "d1"
    rejected: list[int] = []
    batch = Batch(events, on_reject=lambda position, _: rejected.append(position))
    open_sink(Destination("databand", server.url, ""), TOKEN, tmp_path).send(batch)
    assert rejected == [1]
    accepted = [body for body, ok in zip(server.asked, server.accepted, strict=True) if ok]
    server.asked[:] = accepted
    assert delivered(server, "log_datasets") == ["mlflow:d0@a", "mlflow:d2@a"]
    assert delivered(server, "log_metrics") == ["mlflow.dataset.d0", "mlflow.dataset.d2"]


def test_a_requests_id_derives_from_its_events(server: Server, tmp_path: Path) -> None:
    """The same events have the same ID in another attempt, other events another ID."""
    destination = Destination("databand", server.url, "")
    for events in ([stepped("a", 1)], [stepped("a", 1)], [stepped("a", 2)]):
        open_sink(destination, TOKEN, tmp_path).send(Batch(events))
    first, second, third = (
        [headers["x-request-id"] for _, headers, _ in server.asked[start : start + 2]]
        for start in (0, 2, 4)
    )
    assert first == second
    assert not set(first) & set(third)
    assert len({*first, *third}) == 4
