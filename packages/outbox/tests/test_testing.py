"""The conformance kit, with a sink that meets the contract and with some that break it."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlflow_connections_outbox import (
    Batch,
    Destination,
    Event,
    Rejected,
    Unauthorized,
    Unavailable,
)
from mlflow_connections_outbox.testing import FaultServer, Request, SinkContract


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Honest:
    """Posts two events per request."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token
        self.opener = urllib.request.build_opener(_NoRedirect)

    def send(self, batch: Batch) -> None:
        """Post, and accept the events of each request."""
        for start in range(0, len(batch), 2):
            self.post([event._asdict() for event in batch[start : start + 2]])
            batch.accept(min(start + 2, len(batch)))

    def post(self, rows: list[dict[str, Any]]) -> None:
        """Post some events."""
        request = urllib.request.Request(
            self.url, json.dumps(rows).encode(), {"Authorization": f"Bearer {self.token}"}
        )
        try:
            with self.opener.open(request, timeout=5) as response:
                json.loads(response.read())
        except urllib.error.HTTPError as error:
            self.judge(error)
        except (OSError, ValueError) as error:
            raise Unavailable(f"no answer: {type(error).__name__}") from None

    def judge(self, error: urllib.error.HTTPError) -> None:
        """Raise the error of a status."""
        if error.code in {401, 403}:
            raise Unauthorized(f"{error.code}") from None
        if error.code in {408, 429} or error.code >= 500 or error.code < 400:
            after = error.headers.get("Retry-After")
            raise Unavailable(f"{error.code}", float(after) if after else None) from None
        raise Rejected(f"{error.code}") from None

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture(autouse=True)
def a_sink() -> Iterator[None]:
    """A module with the sink."""

    def open_sink(destination: Destination, environ: Mapping[str, str], state: Path) -> Honest:
        assert state.is_dir()
        return Honest(destination.url, environ["A_TOKEN"])

    module = ModuleType("an_honest_sink")
    module.open_sink = open_sink  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    yield
    del sys.modules[module.__name__]


class TestHonest(SinkContract):
    """The contract holds for a sink that follows the documentation."""

    sink = "an_honest_sink:open_sink"
    environ = {"A_TOKEN": "hunter2"}  # noqa: RUF012 - never changed

    def events(self) -> list[Event]:
        """Return five."""
        return [Event("run", "metrics", n, {"n": n}) for n in range(5)]

    def received(self, requests: Sequence[Request]) -> list[Hashable]:
        """Return their IDs."""
        return [row["id"] for request in requests for row in json.loads(request.body)]


class Contract(TestHonest):
    """The same contract, called directly."""

    __test__ = False


def broken(**methods: Any) -> Any:
    """Return an opener of sinks that differ from the honest one."""
    kind = type("Broken", (Honest,), methods)
    return lambda server: kind(server.url, "hunter2")


def accept_before_posting(self: Honest, batch: Batch) -> None:
    """Accept everything first."""
    batch.accept(len(batch))
    self.post([event._asdict() for event in batch])


def believe_everything(self: Honest, error: urllib.error.HTTPError) -> None:
    """Treat any response as acceptance."""


def tell_the_token(self: Honest, error: urllib.error.HTTPError) -> None:
    """Put a secret into a message."""
    raise Unavailable(f"{error.code} for {self.token}", 7.0)


@pytest.mark.parametrize(
    ("test", "arguments", "methods"),
    [
        ("test_a_busy_destination_is_unavailable", (503,), {"send": accept_before_posting}),
        ("test_a_busy_destination_is_unavailable", (503,), {"judge": believe_everything}),
        ("test_a_busy_destination_is_unavailable", (503,), {"judge": tell_the_token}),
        ("test_credentials_may_be_refused", (401,), {"judge": tell_the_token}),
        ("test_what_is_rejected_is_named", (400,), {"judge": tell_the_token}),
        ("test_only_what_arrived_is_accepted", (0,), {"send": accept_before_posting}),
    ],
)
def test_a_sink_that_breaks_the_contract_fails_it(
    test: str, arguments: tuple[Any, ...], methods: dict[str, Any]
) -> None:
    """The kit detects a sink that accepts too early, trusts any response, or reveals a secret."""
    contract = Contract()
    server = FaultServer(contract.respond)
    make = broken(**methods)
    try:
        with pytest.raises((AssertionError, pytest.fail.Exception, Unavailable)):
            getattr(contract, test)(server, lambda: make(server), *arguments)
    finally:
        server.close()
