"""A stand-in over the wire, with a small application and its own backend."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from mlflow_connections_sandbox import Fault, OpenMlflow, StandIn

if TYPE_CHECKING:
    from starlette.types import ASGIApp

BODY = "0123456789" * 100
LINES = 2000


class Plain(StandIn):
    """Answers with a text, in one piece or in many."""

    name = "plain"

    def app(self) -> "ASGIApp":
        """Create the application."""

        def whole(request: Request) -> Response:
            return PlainTextResponse(BODY)

        def pieces(request: Request) -> Response:
            parts = [BODY[i : i + 7] for i in range(0, len(BODY), 7)]
            return StreamingResponse(iter(parts), headers={"content-length": str(len(BODY))})

        def lines(request: Request) -> Response:
            return StreamingResponse(f"line {i}\n" for i in range(LINES))

        async def echo(request: Request) -> Response:
            body = await request.body()
            return JSONResponse(
                {
                    "method": request.method,
                    "query": request.url.query,
                    "path": request.url.path,
                    "headers": dict(request.headers),
                    "size": len(body),
                    "sum": sum(body),
                },
                201,
                {"X-Kept": "yes", "Keep-Alive": "timeout=5"},
            )

        methods = ["GET", "POST", "PUT", "DELETE"]
        return Starlette(
            routes=[
                Route("/whole", whole),
                Route("/pieces", pieces),
                Route("/lines", lines),
                Route("/echo/{rest:path}", echo, methods=methods),
            ]
        )

    def environment(self) -> Mapping[str, str]:
        """Return the address."""
        return {"PLAIN_URL": self.url}


class Elsewhere(OpenMlflow):
    """Forwards to another path."""

    def forward(self, request: Request) -> Response:
        """Replace the beginning of the path."""
        return self.mlflow.forward(request, request.url.path.replace("/other/", "/echo/"))


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Plain]:
    """A stand-in that responds."""
    stand_in = Plain("http://127.0.0.1:9", tmp_path / "plain")
    stand_in.start()
    yield stand_in
    stand_in.close()


@pytest.fixture
def forwarding(plain: Plain, tmp_path: Path) -> Iterator[OpenMlflow]:
    """A stand-in in front of the other one, which plays the MLflow server."""
    stand_in = OpenMlflow(plain.url, tmp_path / "forwarding")
    stand_in.start()
    yield stand_in
    stand_in.close()


@pytest.fixture
def elsewhere(plain: Plain, tmp_path: Path) -> Iterator[Elsewhere]:
    """A stand-in that forwards to another path of the other one."""
    stand_in = Elsewhere(plain.url, tmp_path / "elsewhere")
    stand_in.start()
    yield stand_in
    stand_in.close()


def test_the_journal_has_a_request_before_its_response_ends(plain: Plain) -> None:
    """A client that has its response finds the request in the journal, without its query."""
    for count in range(1, 30):
        assert requests.get(f"{plain.url}/whole?token=t", timeout=5).text == BODY
        received = plain.journal.requests("/whole")
        assert len(received) == count
        assert received[-1][1:4] == ("GET", "/whole", 200)


def test_a_fault_replaces_the_application(plain: Plain) -> None:
    """A status with body, type and headers arrives as injected, as often as injected."""
    plain.faults.inject(
        Fault("/whole", 429, "<p>slow down", "text/html", (("Retry-After", "7"),), times=2)
    )
    for _ in range(2):
        answer = requests.get(f"{plain.url}/whole", timeout=5)
        assert (answer.status_code, answer.text) == (429, "<p>slow down")
        assert answer.headers["Retry-After"] == "7"
        assert answer.headers["Content-Type"] == "text/html"
    assert requests.get(f"{plain.url}/whole", timeout=5).text == BODY
    assert [r.status for r in plain.journal.requests()] == [429, 429, 200]


def test_a_fault_affects_only_its_path(plain: Plain) -> None:
    """Requests to other paths are answered as usual."""
    plain.faults.inject(Fault("/whole", 500))
    assert requests.get(f"{plain.url}/pieces", timeout=5).text == BODY
    plain.faults.clear()
    assert requests.get(f"{plain.url}/whole", timeout=5).text == BODY


def test_a_delay_delays_the_response(plain: Plain) -> None:
    """A slow service responds correctly, but late."""
    plain.faults.inject(Fault(delay=0.3))
    started = time.monotonic()
    assert requests.get(f"{plain.url}/whole", timeout=5).text == BODY
    assert time.monotonic() - started >= 0.3


def test_a_cut_connection_sends_no_response(plain: Plain) -> None:
    """The connection closes without a byte, and the next request works."""
    plain.faults.inject(Fault(cut=True, times=1))
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{plain.url}/whole", timeout=5)
    assert [r.status for r in plain.journal.requests()] == [0]
    assert requests.get(f"{plain.url}/whole", timeout=5).text == BODY


def test_a_hanging_service_does_not_delay_the_end(plain: Plain) -> None:
    """With a delay and a cut a client reaches its own time limit; closing does not wait for it."""
    plain.faults.inject(Fault(delay=60, cut=True))
    with pytest.raises(requests.Timeout):
        requests.get(f"{plain.url}/whole", timeout=0.2)
    started = time.monotonic()
    plain.close()
    assert time.monotonic() - started < 30


def test_a_hanging_service_cuts_its_clients_off_when_it_stops(
    plain: Plain, caplog: pytest.LogCaptureFixture
) -> None:
    """A waiting client is disconnected immediately, and no traceback is logged."""
    plain.faults.inject(Fault(delay=60, times=1))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(requests.get, f"{plain.url}/whole", timeout=50)
        while plain.faults._faults:
            time.sleep(0.01)
        plain.close()
        with pytest.raises(requests.ConnectionError):
            waiting.result()
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("path", ["/whole", "/pieces"])
@pytest.mark.parametrize("size", [0, 1, 250, 999])
def test_a_truncated_response_has_the_real_head_and_the_first_bytes(
    plain: Plain, path: str, size: int
) -> None:
    """Status and length are those of the whole response, of which only so many bytes arrive."""
    plain.faults.inject(Fault(path, truncate=size))
    connection = http.client.HTTPConnection("127.0.0.1", plain.port, timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert (answer.status, answer.headers["content-length"]) == (200, str(len(BODY)))
    with pytest.raises(http.client.IncompleteRead) as caught:
        answer.read()
    assert caught.value.partial == BODY[:size].encode()
    connection.close()


def test_truncating_at_the_length_leaves_the_response_complete(plain: Plain) -> None:
    """A response that is no longer than the limit arrives unchanged."""
    plain.faults.inject(Fault(truncate=len(BODY)))
    assert requests.get(f"{plain.url}/pieces", timeout=5).text == BODY


def test_a_lost_response_is_that_of_a_request_that_was_carried_out(plain: Plain) -> None:
    """The client sees a closed connection, and the next request is answered."""
    plain.faults.inject(Fault(lost=True, times=1))
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{plain.url}/whole", timeout=5)
    (entry,) = plain.journal.requests()
    assert (entry.status, entry.is_fault) == (0, True)
    assert requests.get(f"{plain.url}/whole", timeout=5).text == BODY


def test_a_closed_stand_in_returns_on_its_address(plain: Plain) -> None:
    """While it is down nothing responds; after a restart it has the address that clients know."""
    plain.close()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{plain.url}/whole", timeout=5)
    plain.start()
    assert requests.get(f"{plain.url}/whole", timeout=5).text == BODY


def test_a_port_that_another_program_uses_for_a_moment_is_waited_for(plain: Plain) -> None:
    """While nothing listens, the system may assign the port to a client's connection."""
    plain.close()
    other = socket.create_server(("127.0.0.1", plain.port))
    threading.Timer(0.2, other.close).start()
    plain.start()
    assert requests.get(plain.url, timeout=9).status_code in {200, 404}


def test_a_request_is_forwarded_without_credentials_and_connection_headers(
    forwarding: OpenMlflow, plain: Plain
) -> None:
    """Method, path, query, headers and body arrive, with another Host and without credentials."""
    body = bytes(range(256)) * 4096
    answer = requests.put(
        f"{forwarding.url}/echo/a%20b?x=1&x=2&y=%2F",
        data=body,
        headers={"Authorization": "Bearer t", "X-Mine": "1", "Content-Type": "text/x"},
        timeout=5,
    )
    got = answer.json()
    assert answer.status_code == 201
    assert answer.headers["X-Kept"] == "yes"
    assert "Keep-Alive" not in answer.headers
    assert (got["method"], got["path"], got["query"]) == ("PUT", "/echo/a b", "x=1&x=2&y=%2F")
    assert (got["size"], got["sum"]) == (len(body), sum(body))
    assert got["headers"]["host"] == f"127.0.0.1:{plain.port}"
    assert got["headers"]["x-mine"] == "1"
    assert got["headers"]["content-type"] == "text/x"
    assert got["headers"]["content-length"] == str(len(body))
    assert "authorization" not in got["headers"]


def test_a_body_without_a_length_is_forwarded_in_chunks(elsewhere: Elsewhere) -> None:
    """A chunked request is forwarded chunked, and to another path if the stand-in changes it."""
    answer = requests.post(
        f"{elsewhere.url}/other/place", data=iter([b"abc", b"defg"]), timeout=5
    ).json()
    assert (answer["path"], answer["size"]) == ("/echo/place", 7)
    assert "content-length" not in answer["headers"]


def test_a_response_of_many_lines_is_forwarded_in_few_pieces(forwarding: OpenMlflow) -> None:
    """MLflow 2 sends an artifact line by line; forwarded one by one, 30 MB would exceed gunicorn's timeout."""
    answer = requests.get(f"{forwarding.url}/lines", stream=True, timeout=30)
    pieces = list(answer.raw.read_chunked())
    assert b"".join(pieces).decode() == "".join(f"line {i}\n" for i in range(LINES))
    assert len(pieces) < LINES / 10


def test_a_backend_that_is_down_gives_502(forwarding: OpenMlflow, plain: Plain) -> None:
    """A dead MLflow server is a bad gateway, not a crash of the stand-in."""
    plain.close()
    answer = requests.get(f"{forwarding.url}/whole", timeout=5)
    assert answer.status_code == 502
    assert "MLflow server" in json.loads(answer.text)["message"]


def test_forwarding_ignores_a_proxy_in_the_environment(
    forwarding: OpenMlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy variable for the client does not affect the sandbox's own requests."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    connection = http.client.HTTPConnection("127.0.0.1", forwarding.port, timeout=5)
    connection.request("GET", "/whole")
    assert connection.getresponse().read().decode() == BODY
    connection.close()
