"""The keyword `mirror`."""

import json

import pytest

from mlflow_connections import InvalidOptionError, MissingOptionError, resolve, use
from mlflow_connections_mirror import connection
from mlflow_connections_mirror._connection import VARIABLE
from mlflow_connections_mirror._credentials import (
    COPY_VARIABLE,
    PRIMARY_VARIABLE,
    SERVERS_VARIABLE,
    MirroredServer,
    address,
    read_names,
    secrets_of,
    server_named,
    uri_at,
)

OPTIONS = {"primary": "http://m:5000", "copy": "http://c:5000"}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from an environment without settings."""
    for name in ("MLFLOW_TRACKING_URI", VARIABLE, COPY_VARIABLE, "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_it_returns_a_composite_uri() -> None:
    """Both servers are part of the tracking URI."""
    uri = resolve("mirror", {}, OPTIONS).tracking_uri
    assert uri == "mirror://?primary=http%3A%2F%2Fm%3A5000&copy=http%3A%2F%2Fc%3A5000"


def test_the_current_store_is_the_default_primary() -> None:
    """Without a primary the tracking URI in force is used; of a mirror, its primary."""
    with use("http://m:5000"):
        first = connection.tracking_uri({}, {"copy": "http://c:5000"})
        assert first == resolve("mirror", {}, OPTIONS).tracking_uri
    with use(first):
        assert connection.tracking_uri({}, {"copy": "http://c:5000"}) == first


def test_a_primary_that_mlflow_recognizes_by_its_uri_keeps_it() -> None:
    """Its tracking URI stays, and a variable names the copy."""
    endpoint = resolve("mirror", {}, {**OPTIONS, "primary": "databricks"})
    assert endpoint.tracking_uri == "databricks"
    assert endpoint.environment[VARIABLE].startswith("mirror://?primary=databricks&copy=")


@pytest.mark.parametrize(
    "options",
    [
        {**OPTIONS, "copy": "http://m:5000"},
        {**OPTIONS, "copy": "mirror"},
        {**OPTIONS, "primary": "mirror://?copy=x"},
    ],
)
def test_a_mirror_needs_two_servers(options: dict[str, str]) -> None:
    """One server twice, or a mirror of a mirror, is an error."""
    with pytest.raises(InvalidOptionError):
        connection.tracking_uri({}, options)


def test_the_copy_must_be_named() -> None:
    """The error names the option."""
    with pytest.raises(MissingOptionError, match="copy"):
        resolve("mirror", {}, {})


def test_credentials_of_the_two_servers_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The primary's token is never sent to the copy, nor the copy's to the primary."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "mine")
    copy = json.dumps(["http://c", {"MLFLOW_TRACKING_TOKEN": "theirs"}])
    monkeypatch.setenv(COPY_VARIABLE, copy)
    secrets = secrets_of("http://m", "http://c")
    assert json.loads(secrets[PRIMARY_VARIABLE]) == ["http://m", {"MLFLOW_TRACKING_TOKEN": "mine"}]
    assert json.loads(secrets[COPY_VARIABLE]) == json.loads(copy)
    # The variable of another copy is ignored.
    assert json.loads(secrets_of("http://m", "http://other")[COPY_VARIABLE]) == ["http://other", {}]


def test_the_servers_names_are_stored_without_secrets() -> None:
    """A later delivery signs in with these names; a URI's password is not among them."""
    options = {"primary": "http://m:5000", "copy": "http://me:hidden@c:5000"}
    names = read_names(resolve("mirror", {}, options).environment[SERVERS_VARIABLE])
    assert tuple(names) == ("http://m:5000", "http://***@c:5000")
    assert server_named(names.primary) == ("http://m:5000", {})
    assert server_named(names.copy) is None
    assert read_names("no JSON") == read_names(None) == (None, None)


def test_two_workspaces_of_databricks_are_two_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their URI is the same, so each outbox names the workspace; the primary's variables stay with the primary."""
    monkeypatch.setenv("DATABRICKS_HOST", "https://a")
    monkeypatch.setenv("DATABRICKS_TOKEN", "of a")
    assert address(MirroredServer("databricks", {})) == "databricks at https://a"
    other = MirroredServer("databricks", {"DATABRICKS_HOST": "https://b"})
    assert address(other) == "databricks at https://b"
    assert uri_at(address(other)) == "databricks"
    assert address(MirroredServer("http://me:hidden@c", {})) == "http://***@c"
    for primary, token in (("databricks", "of a"), ("http://m", None)):
        mine = json.loads(secrets_of(primary, "http://c")[PRIMARY_VARIABLE])[1]
        assert mine.get("DATABRICKS_TOKEN") == token


def test_a_name_that_needs_a_missing_secret_is_not_resolved() -> None:
    """The delivery continues with the other known values, and reports that the server refuses it."""
    assert server_named("no-such-connection") is None
