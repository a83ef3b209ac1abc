"""The sink of a mirror meets the contract of all sinks, against a misbehaving server."""

import json
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import pytest

from mlflow_connections_outbox import Event, Sink, Unavailable
from mlflow_connections_outbox.testing import FaultServer, Request, Response, SinkContract


class TestMirrorSink(SinkContract):
    """Registered models, each of which is one request to MLflow's server."""

    sink = "mlflow_connections_mirror.sink:open_sink"

    @pytest.fixture(autouse=True)
    def patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make MLflow retry nothing and follow no redirection, as in the shipper's process."""
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
        monkeypatch.setenv("MLFLOW_ALLOW_HTTP_REDIRECTS", "false")

    def events(self) -> list[Event]:
        """Return events that create models."""
        data: dict[str, Any] = {"tags": {}, "description": None}
        return [Event(f"wine-{n}", "registered_model_created", 0, data) for n in range(5)]

    def key(self, event: Event) -> Hashable:
        """Return the name of the model."""
        return event.stream

    def received(self, requests: Sequence[Request]) -> list[Hashable]:
        """Return the names in the requests."""
        return [json.loads(r.body)["name"] for r in requests if r.path.endswith("/create")]

    def respond(self, request: Request) -> Response:
        """Respond as a server that has created a model."""
        name = json.loads(request.body or b"{}").get("name", "")
        return Response(body=json.dumps({"registered_model": {"name": name}}).encode())

    def test_a_destination_may_say_when_to_come_back(
        self, server: FaultServer, opened: Callable[[], Sink]
    ) -> None:
        """MLflow's client drops `Retry-After`, so the outbox's own pauses apply."""
        server.faults = [Response(429, b"", {"Retry-After": "7"})] * 20
        error = self.fails(opened(), Unavailable)
        assert isinstance(error, Unavailable)
        assert error.retry_after is None
