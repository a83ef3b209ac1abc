"""The keyword `mirror`."""

import json
from pathlib import Path

import pytest

from mlflow_connections import InvalidOptionError, MissingOptionError, resolve, use
from mlflow_connections_mirror import connection
from mlflow_connections_mirror._composite import parse
from mlflow_connections_mirror._connection import VARIABLE
from mlflow_connections_mirror._credentials import (
    COPY_VARIABLE,
    PRIMARY_VARIABLE,
    SERVERS_VARIABLE,
    MirroredServer,
    address,
    primary_of,
    read_names,
    secrets_of,
    server_at,
    uri_at,
)
from mlflow_connections_mirror._uri import MirrorUri

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
    assert server_at("http://m:5000", names.primary) == ("http://m:5000", {})
    assert server_at("http://***@c:5000", names.copy) == ("http://***@c:5000", {})
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


def test_a_name_is_used_for_its_own_server_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name without its secret, or that names another server by now, adds nothing to the address."""
    file = tmp_path / "connections.toml"
    file.write_text('[connections.lab]\nconnection = "http://lab"\n')
    monkeypatch.setenv("MLFLOW_CONNECTIONS_FILE", str(file))
    assert resolve("lab").tracking_uri == "http://lab"
    for place, name in (
        ("http://lab", "lab"),
        ("http://moved", "lab"),
        ("http://m", "no-such-connection"),
        ("http://m", None),
    ):
        assert server_at(place, name) == (place, {})


def test_two_primaries_have_two_outboxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their events, IDs and names lie in two folders, also if two relative paths are the same."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", str(tmp_path / "outbox"))
    found = set()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        for primary in ("http://a", "http://b", "sqlite:///mlflow.db", "mlruns"):
            uri = MirrorUri(primary, "http://copy")
            destination = parse(str(uri)).outbox().destination
            assert destination.url == "http://copy"
            assert primary_of(destination.name) == address(MirroredServer(primary, {}))
            found.add(destination)
    assert len(found) == 6


def test_a_copy_at_a_relative_path_stays_where_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that delivers has another working directory."""
    monkeypatch.chdir(tmp_path)
    for named, place in (
        ("sqlite:///copy.db", f"sqlite:///{tmp_path / 'copy.db'}"),
        ("sqlite:////copy.db", "sqlite:////copy.db"),
        ("mlruns", f"{tmp_path / 'mlruns'}"),
    ):
        uri = resolve("mirror", {}, {**OPTIONS, "copy": named}).tracking_uri
        assert parse(uri).uri.copy == place
