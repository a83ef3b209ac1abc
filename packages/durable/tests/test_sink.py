"""The server of a delivery."""

import json
from pathlib import Path

import pytest

from mlflow_connections import AccessError, ConnectionsError, UnreachableError
from mlflow_connections.authentication import DESCRIPTION_VARIABLE
from mlflow_connections_durable import sink
from mlflow_connections_outbox import Destination, Unauthorized, Unavailable

URL = "https://mlflow.example.com"


@pytest.mark.parametrize(
    ("description", "uri"),
    [({"agent": "/nowhere/agent"}, "resolved"), ({"token_file": "/run/token"}, URL)],
    ids=["a parent that has ended", "a description of its own"],
)
def test_a_shipper_signs_in_itself_once_its_parent_has_ended(
    description: dict[str, str], uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow-connections run` holds the secret only as long as the training lives; the shipper outlives both."""
    (tmp_path / sink.DESCRIPTION).write_text(json.dumps({"uri": URL, "server": "http"}))
    entry = {"origin": f"{URL}:443", "opener": "module:function", "description": description}
    packed = json.dumps([URL, {DESCRIPTION_VARIABLE: json.dumps([entry])}])
    resolved = sink.DurableTarget("resolved", {}, is_own=True)
    asked = []

    def resolve(server: str, *, is_own: bool) -> sink.DurableTarget:
        asked.append((server, is_own))
        return resolved

    monkeypatch.setattr(sink, "_resolved", resolve)
    destination = Destination("durable", URL, "mlflow_connections_durable.sink:open_sink")
    target = sink._target(destination, {sink.TARGET_VARIABLE: packed}, tmp_path)
    assert target.uri == uri
    assert asked == ([("http", True)] if uri == "resolved" else [])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UnreachableError("The service is down."), Unavailable),
        (AccessError("The service refuses the secret."), Unauthorized),
    ],
)
def test_a_server_that_cannot_be_found_now_is_not_one_that_refuses_credentials(
    error: ConnectionsError,
    expected: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A shipper that resolves the server itself tells the two apart."""

    def fail(server: str) -> None:
        raise error

    monkeypatch.setattr("mlflow_connections.resolve", fail)
    destination = Destination("durable", URL, "mlflow_connections_durable.sink:open_sink")
    with pytest.raises(expected, match=str(error)):
        sink._target(destination, {}, tmp_path)
