"""Connections that wrap a server."""

from collections.abc import Mapping
from typing import Any

import pytest

from mlflow_connections import InvalidOptionError, Option
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
