"""Tests for sinks: subclass `SinkContract`, which pytest runs against a misbehaving HTTP server.

For example::

    class TestMySink(SinkContract):
        sink = "my_package.sink:open_sink"
        environ = {"MY_TOKEN": "a-secret"}

        def events(self) -> list[Event]:
            return [Event("run", "metrics", 0, {"n": n}) for n in range(5)]

        def received(self, requests: Sequence[Request]) -> list[Hashable]:
            return [row["n"] for request in requests for row in json.loads(request.body)]

        def key(self, event: Event) -> Hashable:
            return event.data["n"]
"""

import gzip
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest

from ._interface import (
    Batch,
    Destination,
    Event,
    Rejected,
    Sink,
    Unauthorized,
    Unavailable,
    open_sink,
)

__all__ = ["FaultServer", "Request", "Response", "SinkContract"]

LOGIN_PAGE = b"<!doctype html><html><title>Sign in</title><form action=/login></form></html>"


class Request(NamedTuple):
    """A request that a server received.

    Attributes:
        method: The HTTP method, such as `POST`.
        path: The path with its query.
        headers: The headers by name, in lower case.
        body: The body, decompressed if it was gzip.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Response(NamedTuple):
    """A response of a server.

    Attributes:
        status: The status code.
        body: The body.
        headers: More headers.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = {"Content-Type": "application/json"}


class FaultServer:
    """An HTTP server on this machine with injectable faults.

    Args:
        respond: Answers a request without a fault.

    Attributes:
        delay: Seconds before each response.
        url: Its address.
        requests: Every request, in order.
        accepted: The requests that `respond` answered with a status below 300, even if the response
            was cut afterwards.
        faults: The faults of the next requests, one each: a `Response` instead of the answer, `cut`
            (the connection closes without a response), `lost` (the request is accepted and the
            response is cut), `hang` (no response until the server is closed), or an empty text for
            none.
    """

    def __init__(self, respond: Callable[[Request], Response] = lambda _: Response()) -> None:
        self.requests: list[Request] = []
        self.accepted: list[Request] = []
        self.faults: list[Response | str] = []
        self.delay = 0.0
        self._respond = respond
        self._lock = threading.Lock()
        self._closed = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                outer._answer(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - their names

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def close(self) -> None:
        """Stop the server; afterwards its address refuses connections."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if handler.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Request(handler.command, handler.path, headers, body)
        with self._lock:
            self.requests.append(request)
            fault = self.faults.pop(0) if self.faults else ""
            response = Response()
            if isinstance(fault, Response):
                response = fault
            elif fault in {"", "lost"}:
                response = self._respond(request)
                if response.status < 300:
                    self.accepted.append(request)
        self._closed.wait(None if fault == "hang" else self.delay)
        if isinstance(fault, str) and fault:
            handler.close_connection = True
            handler.connection.close()
            return
        handler.send_response(response.status)
        for name, value in response.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(response.body)))
        handler.end_headers()
        handler.wfile.write(response.body)


class SinkContract:
    """The contract of a sink. Subclass it in a test module, and implement its abstract methods.

    Attributes:
        sink: `module:function`, an `OpenSink`.
        environ: The variables with the credentials; their values must not appear in any error.
        name: The name of the destination.
    """

    sink: ClassVar[str]
    environ: ClassVar[Mapping[str, str]] = {}
    name: ClassVar[str] = "tested"

    def events(self) -> list[Event]:
        """Return at least five events that the destination accepts, each with another `key`."""
        raise NotImplementedError

    def received(self, requests: Sequence[Request]) -> list[Hashable]:
        """Return the keys of the events in requests, in order, with repetitions."""
        raise NotImplementedError

    def key(self, event: Event) -> Hashable:
        """Return the part of a request that identifies the event."""
        return event.id

    def respond(self, _: Request) -> Response:
        """Return the destination's answer to a request that it accepts."""
        return Response()

    # ----- what the tests use

    @pytest.fixture
    def server(self) -> Iterator[FaultServer]:
        """A server in place of the destination."""
        server = FaultServer(self.respond)
        yield server
        server.close()

    @pytest.fixture
    def opened(self, server: FaultServer, tmp_path: Path) -> Iterator[Callable[[], Sink]]:
        """Opens sinks that send to the server, and closes them."""
        sinks: list[Sink] = []

        def make() -> Sink:
            state = tmp_path / "state"
            state.mkdir(exist_ok=True)
            destination = Destination(self.name, server.url, self.sink)
            sinks.append(open_sink(destination, self.environ, state))
            return sinks[-1]

        yield make
        for sink in sinks:
            sink.close()

    def batch(self, rejected: list[int] | None = None) -> Batch:
        """Return a batch of the events, which have IDs as in an outbox."""
        events = [event._replace(id=f"a:{n}") for n, event in enumerate(self.events())]
        on_reject = None if rejected is None else (lambda position, _: rejected.append(position))
        return Batch(events, on_reject=on_reject)

    def keys(self, batch: Sequence[Event]) -> list[Hashable]:
        """Return the keys of events."""
        return [self.key(event) for event in batch]

    # ----- the contract

    def test_a_batch_arrives_whole(self, server: FaultServer, opened: Callable[[], Sink]) -> None:
        """When `send` returns, the destination has every event."""
        batch = self.batch()
        assert len(batch) >= 5
        opened().send(batch)
        assert set(self.received(server.accepted)) >= set(self.keys(batch))

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_a_busy_destination_is_unavailable(
        self, server: FaultServer, opened: Callable[[], Sink], status: int
    ) -> None:
        """A temporary fault raises `Unavailable`, whose text contains no secret."""
        server.faults = [Response(status, b"busy")] * 20
        self.fails(opened(), Unavailable)

    def test_a_destination_may_say_when_to_come_back(
        self, server: FaultServer, opened: Callable[[], Sink]
    ) -> None:
        """`Retry-After` in seconds is passed on."""
        server.faults = [Response(429, b"", {"Retry-After": "7"})] * 20
        error = self.fails(opened(), Unavailable)
        assert isinstance(error, Unavailable)
        assert error.retry_after == 7

    @pytest.mark.parametrize("status", [401, 403])
    def test_credentials_may_be_refused(
        self, server: FaultServer, opened: Callable[[], Sink], status: int
    ) -> None:
        """Events wait for other credentials, so `Unauthorized` is distinguished from all other faults."""
        server.faults = [Response(status, b"no")] * 20
        self.fails(opened(), Unauthorized)

    @pytest.mark.parametrize("fault", ["cut", "lost"])
    def test_a_connection_that_breaks_is_unavailable(
        self, server: FaultServer, opened: Callable[[], Sink], fault: str
    ) -> None:
        """A missing response does not mean acceptance, whatever happened to the request."""
        server.faults = [fault] * 20
        self.fails(opened(), Unavailable)

    def test_nobody_at_the_address_is_unavailable(
        self, server: FaultServer, opened: Callable[[], Sink]
    ) -> None:
        """Events wait for a destination that is down."""
        server.close()
        self.fails(opened(), Unavailable)

    @pytest.mark.parametrize(
        "answer",
        [
            Response(200, LOGIN_PAGE, {"Content-Type": "text/html"}),
            Response(302, b"", {"Location": "/login"}),
        ],
        ids=["a page", "a redirection"],
    )
    def test_a_login_page_is_not_the_destination(
        self, server: FaultServer, opened: Callable[[], Sink], answer: Response
    ) -> None:
        """A proxy that asks people to sign in has accepted nothing."""
        server.faults = [answer] * 20
        self.fails(opened(), Unavailable)

    @pytest.mark.parametrize("status", [400, 422])
    def test_what_is_rejected_is_named(
        self, server: FaultServer, opened: Callable[[], Sink], status: int
    ) -> None:
        """A permanent refusal raises `Rejected`, or sets the events aside one by one."""
        server.faults = [Response(status, b"nonsense")] * 1000
        rejected: list[int] = []
        batch = self.batch(rejected)
        raised: Rejected | None = None
        try:
            opened().send(batch)
        except Rejected as rejection:
            raised = rejection
        everything = set(range(len(batch)))
        assert raised is not None or set(rejected) == everything
        assert raised is None or raised.positions <= everything
        assert server.accepted == []

    @pytest.mark.parametrize("after", range(4))
    def test_only_what_arrived_is_accepted(
        self, server: FaultServer, opened: Callable[[], Sink], after: int
    ) -> None:
        """Wherever a batch is interrupted, the accepted prefix has arrived, and the rest can be sent again."""
        server.faults = [*[""] * after, *["cut"] * 20]
        batch = self.batch()
        try:
            opened().send(batch)
        except Unavailable:
            pass
        else:
            return  # it takes fewer requests
        assert set(self.keys(batch[: batch.accepted])) <= set(self.received(server.accepted))
        server.faults = []
        rest = Batch(batch[batch.accepted :])
        opened().send(rest)
        assert set(self.received(server.accepted)) >= set(self.keys(batch))

    def test_accepted_events_are_not_sent_again(
        self, server: FaultServer, opened: Callable[[], Sink]
    ) -> None:
        """After a fault in the middle, no later request contains the accepted prefix."""
        server.faults = ["", "cut"]
        batch = self.batch()
        try:
            opened().send(batch)
        except Unavailable:
            before = len(server.accepted)
            opened().send(Batch(batch[batch.accepted :]))
            again = set(self.received(server.accepted[before:]))
            assert not again & set(self.keys(batch[: batch.accepted]))
        else:
            assert len(server.requests) == 1

    def fails(self, sink: Sink, kind: type[Exception]) -> Exception:
        """Send a batch, which must fail without accepting an event or revealing a secret."""
        batch = self.batch([])
        begun = time.monotonic()
        with pytest.raises(kind) as caught:
            sink.send(batch)
        assert time.monotonic() - begun < 60, "a wait is not bounded by half a minute"
        assert batch.accepted == 0
        for value in self.environ.values():
            assert value not in str(caught.value)
        return caught.value
