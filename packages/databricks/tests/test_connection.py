"""What `databricks` makes of options, credentials and the environment."""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_connections import (
    ConnectionsError,
    Endpoint,
    InvalidOptionError,
    MissingOptionError,
    resolve,
    use,
)
from mlflow_connections_databricks import DatabricksConnection, connection

HOST = "https://dbc.example"
TOKEN = "dapi0123456789"
SECRET = "dose9876543210"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the developer's own Databricks out of the environment."""
    for name in [n for n in os.environ if n.startswith(("DATABRICKS_", "MLFLOW_"))]:
        monkeypatch.delenv(name)


def told(credentials: dict[str, Any] | None = None, **options: Any) -> Endpoint:
    """Resolve the keyword."""
    return resolve("databricks", credentials or {}, options)


def test_nothing_given_is_mlflows_own_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without options the URI is `databricks` and nothing is exported, whatever the environment has."""
    assert told() == Endpoint("databricks", None, {})
    for name in ("HOST", "TOKEN", "CLIENT_ID", "CLIENT_SECRET", "CONFIG_PROFILE"):
        monkeypatch.setenv(f"DATABRICKS_{name}", "no address at all")
    assert told() == Endpoint("databricks", None, {})
    assert told({"unrelated": "of another service"}) == Endpoint("databricks", None, {})


def test_it_can_be_called_without_resolve() -> None:
    """The specification's way: one method, two mappings, one URI."""
    assert connection.tracking_uri({}, {}) == "databricks"
    assert connection.registry_uri({}, {}) == "databricks"
    assert DatabricksConnection().environment({}, {}) == {}


def test_the_registry_is_left_alone_unless_asked_for() -> None:
    """Only with `registry` is there a registry URI; the keyword there is the legacy registry."""
    assert told().registry_uri is None
    assert told(profile="prod").registry_uri is None
    assert resolve("databricks", registry="databricks").registry_uri == "databricks"
    with_profile = resolve("databricks", {}, {"profile": "prod"}, registry="databricks")
    assert with_profile.registry_uri == "databricks://prod"
    catalog = resolve("databricks", {"token": TOKEN}, {"host": HOST}, registry="databricks-uc")
    assert catalog.registry_uri == "databricks-uc"


def test_a_profile_becomes_part_of_the_uri() -> None:
    """Its name is exported beside, since MLflow forgets it for artifacts; no secret is."""
    assert told(profile="my.prod-1") == Endpoint(
        "databricks://my.prod-1", None, {"DATABRICKS_CONFIG_PROFILE": "my.prod-1"}
    )


def test_variables_that_would_beat_a_profile_are_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left in the environment does not lead the run to another workspace."""
    monkeypatch.setenv("DATABRICKS_HOST", "https://left.example")
    monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)
    assert told(profile="prod").environment == {
        "DATABRICKS_HOST": "",
        "DATABRICKS_TOKEN": "",
        "DATABRICKS_CONFIG_PROFILE": "prod",
    }
    with use("databricks", {}, {"profile": "prod"}):
        assert not os.environ["DATABRICKS_HOST"]
    assert os.environ.get("DATABRICKS_HOST") == "https://left.example"


@pytest.mark.parametrize(
    "profile", ["a/b", "a:b", "a b", "a?x=1", "a#b", "u@p", "a%2Fb", "", "a\n", "[x]"]
)
def test_a_profile_that_changes_the_uri_is_refused(profile: str) -> None:
    """A name with a meaning in a URI is refused, by name and with the cure."""
    with pytest.raises(InvalidOptionError) as caught:
        told(profile=profile)
    assert "profile" in str(caught.value)


def test_a_token_is_exported_with_its_host() -> None:
    """Exactly the workspace's variables are exported, and the method is named."""
    got = told({"token": TOKEN, "other": "secret"}, host=f"{HOST}/")
    assert got.tracking_uri == "databricks"
    assert got.environment == {
        "DATABRICKS_HOST": HOST,
        "DATABRICKS_TOKEN": TOKEN,
        "DATABRICKS_AUTH_TYPE": "pat",
    }
    assert TOKEN not in repr(got)


def test_an_oauth_client_is_exported_with_its_host() -> None:
    """The client's id and secret, the host, and the method."""
    got = told({"client_id": "id", "client_secret": SECRET}, host=HOST)
    assert got.environment == {
        "DATABRICKS_HOST": HOST,
        "DATABRICKS_CLIENT_ID": "id",
        "DATABRICKS_CLIENT_SECRET": SECRET,
        "DATABRICKS_AUTH_TYPE": "oauth-m2m",
    }


def test_what_is_given_comes_before_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client left in the environment does not contradict a token, nor a profile a host."""
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "left")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "left")
    monkeypatch.setenv("DATABRICKS_CONFIG_PROFILE", "left")
    assert told({"token": TOKEN}, host=HOST).environment == {
        "DATABRICKS_HOST": HOST,
        "DATABRICKS_TOKEN": TOKEN,
        "DATABRICKS_AUTH_TYPE": "pat",
        "DATABRICKS_CONFIG_PROFILE": "",
    }


def test_the_environment_completes_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half in the files and half in variables is whole, as on a build server."""
    monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)
    assert told(host=HOST).environment["DATABRICKS_TOKEN"] == TOKEN
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("DATABRICKS_HOST", HOST)
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", SECRET)
    assert told({"client_id": "id"}).environment["DATABRICKS_HOST"] == HOST


def test_a_host_alone_leaves_the_method_that_the_user_chose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With DATABRICKS_AUTH_TYPE set, say azure-cli, only the address is exported."""
    monkeypatch.setenv("DATABRICKS_AUTH_TYPE", "azure-cli")
    assert told(host=HOST).environment == {"DATABRICKS_HOST": HOST}


def test_two_methods_in_the_environment_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an address alone and two methods left around, nothing says which; neither value shows."""
    monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", SECRET)
    with pytest.raises(InvalidOptionError, match="unset one") as caught:
        told(host=HOST)
    assert TOKEN not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_host_without_a_scheme_is_refused_with_its_cure() -> None:
    """It would become https after minutes of waiting; the message says what to write."""
    with pytest.raises(InvalidOptionError) as caught:
        told({"token": TOKEN}, host="dbc.example")
    assert "'host' in the connection options" in str(caught.value)
    assert "write 'https://dbc.example'" in str(caught.value)


def test_a_host_in_the_environment_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable when that is where the address was read."""
    monkeypatch.setenv("DATABRICKS_HOST", "dbc.example")
    with pytest.raises(InvalidOptionError, match="variable DATABRICKS_HOST has no scheme"):
        told({"token": TOKEN})


@pytest.mark.parametrize(
    "host", ["ftp://dbc.example", "https://", "https:///x", "https://h:port", "https://[x"]
)
def test_a_host_that_is_no_address_is_refused(host: str) -> None:
    """Another scheme, no name, or a port that is none."""
    with pytest.raises(InvalidOptionError, match="no address"):
        told({"token": TOKEN}, host=host)


@pytest.mark.parametrize("host", [f"https://u:{SECRET}@dbc.example", f"u:{SECRET}@dbc.example"])
def test_a_password_in_the_address_is_refused_unseen(host: str) -> None:
    """Credentials belong elsewhere, and the message does not show them."""
    with pytest.raises(InvalidOptionError) as caught:
        told({"token": TOKEN}, host=host)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("suffix", ["/", "/?o=123", "/ml/experiments?o=1#x"])
def test_what_a_browser_shows_behind_the_address_is_dropped(suffix: str) -> None:
    """An address pasted from the browser works."""
    assert told({"token": TOKEN}, host=HOST + suffix).environment["DATABRICKS_HOST"] == HOST


@pytest.mark.parametrize(
    ("credentials", "options", "named"),
    [
        ({}, {"profile": "p", "host": HOST}, ["profile", "host"]),
        ({"token": TOKEN}, {"profile": "p"}, ["profile", "token"]),
        ({"client_secret": SECRET}, {"profile": "p"}, ["profile", "client_secret"]),
        ({"token": TOKEN, "client_id": "i"}, {"host": HOST}, ["token", "client_id"]),
        ({"token": TOKEN, "client_secret": SECRET}, {"host": HOST}, ["token", "client_secret"]),
    ],
)
def test_what_contradicts_itself_is_refused(
    credentials: dict[str, str], options: dict[str, str], named: list[str]
) -> None:
    """Two answers to one question are an error that names both and shows no secret."""
    with pytest.raises(InvalidOptionError) as caught:
        resolve("databricks", credentials, options)
    for name in named:
        assert f"'{name}'" in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("credentials", "options", "missing"),
    [
        ({"token": TOKEN}, {}, ["host"]),
        ({"client_id": "i"}, {}, ["host", "client_secret"]),
        ({"client_secret": SECRET}, {}, ["host", "client_id"]),
        ({"client_id": "i"}, {"host": HOST}, ["client_secret"]),
        ({}, {"host": HOST}, ["token", "client_id", "client_secret"]),
    ],
)
def test_everything_that_is_missing_is_named_at_once(
    credentials: dict[str, str], options: dict[str, str], missing: list[str]
) -> None:
    """One error names each missing value with its variable, and shows no secret."""
    with pytest.raises(MissingOptionError) as caught:
        resolve("databricks", credentials, options)
    for name in missing:
        assert f"'{name}'" in str(caught.value)
        assert f"DATABRICKS_{name.upper()}" in str(caught.value)
    for name in {"host", "token", "client_id", "client_secret"} - set(missing):
        assert f"'{name}' is neither" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert SECRET not in str(caught.value)


TEXT = st.one_of(st.none(), st.text(st.characters(max_codepoint=0x17F), max_size=12), st.just(HOST))


# The first table of characters that hypothesis makes is slow on a busy machine.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries({}, optional={"profile": TEXT, "host": TEXT}),
    st.fixed_dictionaries({}, optional={"client_id": TEXT}),
    st.sets(st.sampled_from(["token", "client_secret"])),
)
def test_no_secret_ever_shows(
    options: dict[str, Any], credentials: dict[str, Any], secrets: set[str]
) -> None:
    """Whatever is given, it resolves or fails with an error of ours, and no secret shows in either."""
    values = {"token": TOKEN, "client_secret": SECRET}
    given_credentials = {**credentials, **{name: values[name] for name in secrets}}
    try:
        shown = repr(resolve("databricks", given_credentials, options))
    except ConnectionsError as error:
        shown = f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"
    assert TOKEN not in shown
    assert SECRET not in shown
