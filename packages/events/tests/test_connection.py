"""Connections that wrap a server."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections import Connection, Endpoint, InvalidOptionError, Option, UnreachableError
from mlflow_connections.last_known import fetched
from mlflow_connections_events._addresses import Addresses
from mlflow_connections_events.connection import CompositeConnection, Front

VARIABLE = "MLFLOW_CONNECTIONS_EAGER"


class Eager(CompositeConnection):
    """Wraps any server, behind the scheme `eager`."""

    variable = VARIABLE
    declared = (Option("server", "The server behind."),)

    def front(self, values: Mapping[str, Any]) -> Front:
        """Return the server, and a variable of the product."""
        inner = self.server_of(values["server"])
        return Front(f"eager://{inner.tracking_uri}", inner, {"EAGER": "1"})

    def inner_of(self, uri: str) -> str | None:
        """Return the wrapped server; an empty one is refused."""
        if uri == "eager://":
            raise InvalidOptionError("It names no server.")
        return uri.removeprefix("eager://") or None


eager = Eager()


@pytest.fixture(autouse=True)
def nothing_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from an environment without settings."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_uri_in_force_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A composite URI in force counts as the server that it wraps."""
    for in_force in ("http://m:5000", "eager://http://m:5000"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", in_force)
        assert eager.tracking_uri({}, {}) == "eager://http://m:5000"
        assert eager.inner_endpoint({}, {}).tracking_uri == in_force


def test_a_named_server_is_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The URI in force, even an invalid one, is ignored if a server is named."""
    for in_force in ("http://other", "eager://http://other", "eager://"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", in_force)
        assert eager.inner_endpoint({}, {"server": "http://m"}).tracking_uri == "http://m"


def test_a_server_that_keeps_its_uri_has_the_composite_one_in_a_variable() -> None:
    """The product's own variables are set for any server as well."""
    assert eager.tracking_uri({}, {"server": "databricks"}) == "databricks"
    assert eager.environment({}, {"server": "databricks"}) == {
        "EAGER": "1",
        VARIABLE: "eager://databricks",
    }
    assert eager.environment({}, {"server": "http://m"}) == {"EAGER": "1"}


def test_a_resolve_looks_up_the_server_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All methods of a prepared connection see the same server, and the next one sees a change."""
    prepared = []
    for server in ("http://a", "databricks"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
        prepared.append(eager.prepared({}, {}))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://b")
    found = [(each.tracking_uri({}, {}), each.environment({}, {})) for each in prepared]
    assert found == [
        ("eager://http://a", {"EAGER": "1"}),
        ("databricks", {"EAGER": "1", VARIABLE: "eager://databricks"}),
    ]
    assert prepared[0].inner_endpoint({}, {}).tracking_uri == "http://a"
    assert eager.tracking_uri({}, {}) == "eager://http://b"


class Found(Connection):
    """A server whose address another service returns."""

    is_down = False

    def tracking_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Return the address that the service returns."""
        return fetched("found", "the server", self._fetch)

    def _fetch(self, seconds: float | None) -> str:
        if self.is_down:
            raise UnreachableError("The service is down.")
        return "http://found:5000"


def test_a_last_known_address_is_used_where_the_server_may_be_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is read from a file next to the spools, and only a product that allows it gets it."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "outbox"))
    found = Found()
    monkeypatch.setattr("mlflow_connections_events.connection.resolve", lambda _: resolved(found))
    with pytest.raises(UnreachableError):
        is_down(found, lambda: eager.server_of("found", may_be_down=True))
    assert eager.server_of("found", may_be_down=True).tracking_uri == "http://found:5000"
    (path,) = (tmp_path / "outbox" / "addresses").iterdir()
    assert json.loads(path.read_text()) == {"key": "found", "uri": "http://found:5000"}
    again = is_down(found, lambda: eager.server_of("found", may_be_down=True))
    assert again.tracking_uri == "http://found:5000"
    with pytest.raises(UnreachableError):
        is_down(found, lambda: eager.server_of("found"))


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff", b"[]", b"{", b"[" * 100_000),
        *(b'{"key": "found"}', b'{"key": "found", "uri": ["x"]}', b'{"key": "other", "uri": "x"}'),
    ],
)
def test_a_damaged_address_is_unknown(
    content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is written again when the service responds."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "outbox"))
    addresses = Addresses()
    addresses.write("found", "http://found:5000")
    (path,) = (tmp_path / "outbox" / "addresses").iterdir()
    path.write_bytes(content)
    assert addresses.read("found") is None
    addresses.write("found", "http://found:5000")
    assert addresses.read("found") == "http://found:5000"


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_an_address_that_others_may_write_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Credentials would be sent to it."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "outbox"))
    addresses = Addresses()
    addresses.write("found", "http://found:5000")
    assert addresses.read("found") == "http://found:5000"
    (tmp_path / "outbox" / "addresses").chmod(0o777)
    assert addresses.read("found") is None
    addresses.write("found", "http://other:5000")
    (tmp_path / "outbox" / "addresses").chmod(0o700)
    assert addresses.read("found") == "http://found:5000"


def resolved(connection: Connection) -> Endpoint:
    """Return the endpoint of a connection without options."""
    return Endpoint(connection.tracking_uri({}, {}))


def is_down(found: Found, call: Callable[[], Endpoint]) -> Endpoint:
    """Make a call while the service is down."""
    found.is_down = True
    try:
        return call()
    finally:
        found.is_down = False
