"""The protocol."""

from collections.abc import Mapping
from typing import Any

import pytest

from mlflow_connections import Connection, KedroMlflowConnection, MissingOptionError


class Plain(Connection):
    """The minimal plugin."""

    def tracking_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Return the same each time."""
        return "http://server.example"


def test_only_the_tracking_uri_is_required() -> None:
    """The registry is the tracking URI and the environment empty unless a plugin overrides them."""
    assert Plain().registry_uri({}, {}) == "http://server.example"
    assert Plain().environment({}, {}) == {}
    assert KedroMlflowConnection is Connection


def test_an_abstract_connection_cannot_be_created() -> None:
    """The base class itself is not a connection."""
    with pytest.raises(TypeError):
        Connection()  # type: ignore[abstract]  # what is tested


def test_getkey_looks_in_the_mapping_then_the_environment_then_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mapping takes precedence, then the variable, then the default."""
    monkeypatch.setenv("TEST_KEY", "variable")
    assert Connection.getkey({"key": "mapping"}, "key", "TEST_KEY", "default") == "mapping"
    assert Connection.getkey({}, "key", "TEST_KEY", "default") == "variable"
    monkeypatch.delenv("TEST_KEY")
    assert Connection.getkey({}, "key", "TEST_KEY", "default") == "default"


def test_getkey_treats_none_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """None in the mapping, and None as the default, count as missing."""
    monkeypatch.setenv("TEST_KEY", "variable")
    assert Connection.getkey({"key": None}, "key", "TEST_KEY") == "variable"
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(KeyError):
        Connection.getkey({"key": None}, "key", "TEST_KEY", None)


def test_getkey_keeps_falsy_values() -> None:
    """Zero, false and an empty text are values."""
    assert Connection.getkey({"key": 0}, "key", "TEST_KEY") == 0
    assert Connection.getkey({"key": False}, "key", "TEST_KEY") is False
    assert Connection.getkey({}, "key", "TEST_KEY", "") == ""


def test_getkey_names_both_places() -> None:
    """The error is a KeyError whose text names the possible places of the value."""
    with pytest.raises(MissingOptionError) as caught:
        Connection.getkey({}, "workspace_name", "AZUREML_WORKSPACE_NAME")
    assert str(caught.value) == (
        "'workspace_name' is neither in the mapping nor in the environment variable AZUREML_WORKSPACE_NAME."
    )
