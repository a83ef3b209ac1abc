"""The URI and variables that follow from options, credentials and the environment."""

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk.config import Config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_connections import (
    ConnectionsError,
    Endpoint,
    InvalidOptionError,
    MissingOptionError,
    UnreachableError,
    resolve,
    use,
)
from mlflow_connections_databricks import DatabricksConnection, connection
from mlflow_connections_databricks._account import AUTH_TYPE, PROFILE
from mlflow_connections_databricks._account import HOST as HOST_VARIABLE

HOST = "https://dbc.example"
TOKEN = "dapi0123456789"
SECRET = "dose9876543210"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the developer's own Databricks variables."""
    foreign = ("ARM_", "DATABRICKS_", "GOOGLE_", "MLFLOW_")
    for name in [n for n in os.environ if n.startswith(foreign)]:
        monkeypatch.delenv(name)


AUTHENTICATING = sorted(
    name
    for attribute in Config.attributes()
    if attribute.env and attribute.auth
    for name in (attribute.env, *getattr(attribute, "env_aliases", ()))
)
"""Every variable with which databricks-sdk selects a method, under its own name."""


def told(credentials: dict[str, Any] | None = None, **options: Any) -> Endpoint:
    """Resolve the keyword."""
    return resolve("databricks", credentials or {}, options)


def test_nothing_given_is_mlflows_own_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without options the URI is `databricks` and nothing is exported, whatever the environment contains."""
    assert told()[:3] == ("databricks", None, {})
    for name in ("HOST", "TOKEN", "CLIENT_ID", "CLIENT_SECRET", "CONFIG_PROFILE"):
        monkeypatch.setenv(f"DATABRICKS_{name}", "no address at all")
    assert told()[:3] == ("databricks", None, {})
    assert told({"unrelated": "of another service"})[:3] == ("databricks", None, {})


def test_it_can_be_called_without_resolve() -> None:
    """The connection can be called as the specification shows: one method, two mappings, one URI."""
    assert connection.tracking_uri({}, {}) == "databricks"
    assert connection.registry_uri({}, {}) == "databricks"
    assert DatabricksConnection().environment({}, {}) == {}


def test_the_registry_is_left_alone_unless_asked_for() -> None:
    """A registry URI is returned only for `registry`, where the keyword is the legacy registry."""
    assert told().registry_uri is None
    assert told(profile="prod").registry_uri is None
    assert resolve("databricks", registry="databricks").registry_uri == "databricks"
    with_profile = resolve("databricks", {}, {"profile": "prod"}, registry="databricks")
    assert with_profile.registry_uri == "databricks://prod"
    catalog = resolve("databricks", {"token": TOKEN}, {"host": HOST}, registry="databricks-uc")
    assert catalog.registry_uri == "databricks-uc"


def test_a_profile_becomes_part_of_the_uri() -> None:
    """The profile's name is exported too, since MLflow omits it for artifacts; no secret is exported."""
    assert told(profile="my.prod-1")[:3] == (
        "databricks://my.prod-1",
        None,
        {"DATABRICKS_CONFIG_PROFILE": "my.prod-1"},
    )


def test_variables_that_would_beat_a_profile_are_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable left in the environment does not send the run to another workspace."""
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
    """A profile name with a special meaning in a URI is refused with a remedy."""
    with pytest.raises(InvalidOptionError) as caught:
        told(profile=profile)
    assert "profile" in str(caught.value)


def test_a_token_is_exported_with_its_host() -> None:
    """Only the workspace's variables are exported, and the method is named."""
    got = told({"token": TOKEN, "other": "secret"}, host=f"{HOST}/")
    assert got.tracking_uri == "databricks"
    assert got.environment == {
        "DATABRICKS_HOST": HOST,
        "DATABRICKS_TOKEN": TOKEN,
        "DATABRICKS_AUTH_TYPE": "pat",
    }
    assert TOKEN not in repr(got)


def test_an_oauth_client_is_exported_with_its_host() -> None:
    """The client's ID and secret, the host and the method are exported."""
    got = told({"client_id": "id", "client_secret": SECRET}, host=HOST)
    assert got.environment == {
        "DATABRICKS_HOST": HOST,
        "DATABRICKS_CLIENT_ID": "id",
        "DATABRICKS_CLIENT_SECRET": SECRET,
        "DATABRICKS_AUTH_TYPE": "oauth-m2m",
    }


def test_given_values_override_leftovers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client left in the environment does not conflict with a token, nor a profile with a host."""
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "left-in-the-environment")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "left-in-the-environment")
    monkeypatch.setenv("DATABRICKS_CONFIG_PROFILE", "left-in-the-environment")
    assert told({"token": TOKEN}, host=HOST).environment == {
        "DATABRICKS_HOST": HOST,
        "DATABRICKS_TOKEN": TOKEN,
        "DATABRICKS_AUTH_TYPE": "pat",
        "DATABRICKS_CONFIG_PROFILE": "",
    }


def test_the_environment_completes_given_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values from the files and from variables complete each other, as on a build server."""
    monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)
    assert told(host=HOST).environment["DATABRICKS_TOKEN"] == TOKEN
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("DATABRICKS_HOST", HOST)
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", SECRET)
    assert told({"client_id": "id"}).environment["DATABRICKS_HOST"] == HOST


def test_a_host_alone_leaves_the_method_that_the_user_chose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If DATABRICKS_AUTH_TYPE is set, for example to azure-cli, only the address is exported."""
    monkeypatch.setenv("DATABRICKS_AUTH_TYPE", "azure-cli")
    assert told(host=HOST).environment == {"DATABRICKS_HOST": HOST}


def test_two_methods_in_the_environment_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with two methods in the environment is an error that shows neither value."""
    monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", SECRET)
    with pytest.raises(InvalidOptionError, match="unset one") as caught:
        told(host=HOST)
    assert TOKEN not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_host_without_a_scheme_is_refused_with_its_remedy() -> None:
    """A host without a scheme, which would hang for minutes, is an error with the correct form."""
    with pytest.raises(InvalidOptionError) as caught:
        told({"token": TOKEN}, host="dbc.example")
    assert "'host' in the connection options" in str(caught.value)
    assert "write 'https://dbc.example'" in str(caught.value)


def test_a_host_in_the_environment_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable if the address came from it."""
    monkeypatch.setenv("DATABRICKS_HOST", "dbc.example")
    with pytest.raises(InvalidOptionError, match="variable DATABRICKS_HOST has no scheme"):
        told({"token": TOKEN})


@pytest.mark.parametrize(
    "host", ["ftp://dbc.example", "https://", "https:///x", "https://h:port", "https://[x"]
)
def test_an_invalid_host_is_refused(host: str) -> None:
    """An address with another scheme, without a name or with an invalid port is refused."""
    with pytest.raises(InvalidOptionError, match="not an address"):
        told({"token": TOKEN}, host=host)


@pytest.mark.parametrize("host", [f"https://u:{SECRET}@dbc.example", f"u:{SECRET}@dbc.example"])
def test_a_password_in_the_address_is_refused_without_showing_it(host: str) -> None:
    """Credentials in an address are refused, and the message does not show them."""
    with pytest.raises(InvalidOptionError) as caught:
        told({"token": TOKEN}, host=host)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("suffix", ["/", "/?o=123", "/ml/experiments?o=1#x"])
def test_a_browser_path_after_the_address_is_dropped(suffix: str) -> None:
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
def test_contradictory_options_are_refused(
    credentials: dict[str, str], options: dict[str, str], named: list[str]
) -> None:
    """Two contradictory values are an error that names both and shows no secret."""
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
def test_all_missing_values_are_named_at_once(
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


# The first character table that Hypothesis builds is slow on a busy machine.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries({}, optional={"profile": TEXT, "host": TEXT}),
    st.fixed_dictionaries({}, optional={"client_id": TEXT}),
    st.sets(st.sampled_from(["token", "client_secret"])),
)
def test_no_secret_ever_shows(
    options: dict[str, Any], credentials: dict[str, Any], secrets: set[str]
) -> None:
    """Any input resolves or fails with an error of this package, and no secret appears in either."""
    values = {"token": TOKEN, "client_secret": SECRET}
    given_credentials = {**credentials, **{name: values[name] for name in secrets}}
    try:
        shown = repr(resolve("databricks", given_credentials, options))
    except ConnectionsError as error:
        shown = f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"
    assert TOKEN not in shown
    assert SECRET not in shown


@pytest.mark.parametrize("name", AUTHENTICATING)
def test_no_method_left_in_the_environment_beats_a_profile(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every variable with which databricks-sdk signs in is cleared, including ARM_* and Google's."""
    monkeypatch.setenv(name, "left-in-the-environment")

    assert told(profile="prod").environment == {name: "", PROFILE: "prod"}


@pytest.mark.parametrize("name", ["ACCOUNT_ID", "AUTH_TYPE", "HOST"])
def test_no_place_left_in_the_environment_beats_a_profile(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host, an account or a method's name in the environment is cleared as well."""
    monkeypatch.setenv(f"DATABRICKS_{name}", "left-in-the-environment")

    assert told(profile="prod").environment[f"DATABRICKS_{name}"] == ""


@pytest.mark.parametrize("name", ["CONFIG_FILE", "CLUSTER_ID", "WAREHOUSE_ID", "DEBUG_HEADERS"])
def test_harmless_variables_stay(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that holds the profile, and variables for other tools, are left alone."""
    monkeypatch.setenv(f"DATABRICKS_{name}", "1")

    assert told(profile="prod").environment == {PROFILE: "prod"}


def test_databricks_sdk_accepts_the_variables_exported_for_a_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With every method left in the environment, databricks-sdk signs in with the profile's token."""
    file = tmp_path / "cfg"
    file.write_text(f"[prod]\nhost = http://127.0.0.1:9\ntoken = {TOKEN}\n")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(file))
    for name in AUTHENTICATING:
        monkeypatch.setenv(name, "left-in-the-environment")
    with use("databricks", {}, {"profile": "prod"}):
        config = Config(profile="prod", retry_timeout_seconds=1, http_timeout_seconds=1)

    assert config.auth_type == "pat"
    assert config.authenticate() == {"Authorization": f"Bearer {TOKEN}"}


def test_place_of_another_host_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account ID and discovery URL of another host in the environment are not used."""
    monkeypatch.setenv(HOST_VARIABLE, "https://left.example")
    monkeypatch.setenv("DATABRICKS_ACCOUNT_ID", "left-in-the-environment")

    assert told({"token": TOKEN}, host=HOST).environment == {
        HOST_VARIABLE: HOST,
        "DATABRICKS_TOKEN": TOKEN,
        AUTH_TYPE: "pat",
        "DATABRICKS_ACCOUNT_ID": "",
    }


def test_place_of_the_same_host_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account ID next to no host, or next to the same host, belongs to the connection."""
    monkeypatch.setenv("DATABRICKS_ACCOUNT_ID", "mine")
    assert "DATABRICKS_ACCOUNT_ID" not in told({"token": TOKEN}, host=HOST).environment
    monkeypatch.setenv(HOST_VARIABLE, f"{HOST}/")
    assert "DATABRICKS_ACCOUNT_ID" not in told({"token": TOKEN}, host=HOST).environment


def test_auth_type_of_the_options_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method given by name needs no credential, and overrides one left in a variable."""
    monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)
    expected = {HOST_VARIABLE: HOST, AUTH_TYPE: "azure-cli"}
    assert told(host=HOST, auth_type="azure-cli").environment == expected


def test_auth_type_of_the_environment_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """DATABRICKS_AUTH_TYPE takes precedence over a token left in the environment."""
    monkeypatch.setenv(AUTH_TYPE, "file-oidc")
    monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)
    assert told(host=HOST).environment == {HOST_VARIABLE: HOST}


def test_auth_type_with_a_client_id_is_oidc() -> None:
    """The OIDC methods need the client's ID and no secret."""
    assert told({"client_id": "id"}, host=HOST, auth_type="github-oidc").environment == {
        HOST_VARIABLE: HOST,
        "DATABRICKS_CLIENT_ID": "id",
        AUTH_TYPE: "github-oidc",
    }


def test_auth_type_of_a_variable_with_a_client_id_is_oidc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The method may also be in its variable, as on a build server."""
    monkeypatch.setenv(AUTH_TYPE, "github-oidc")
    assert told({"client_id": "id"}, host=HOST).environment[AUTH_TYPE] == "github-oidc"


def test_auth_type_beside_a_profile_is_exported() -> None:
    """A profile may hold credentials of two methods; the option selects one."""
    environment = told(profile="prod", auth_type="databricks-cli").environment
    assert environment == {PROFILE: "prod", AUTH_TYPE: "databricks-cli"}


@pytest.mark.parametrize(("auth_type", "missing"), [("pat", "token"), ("oauth-m2m", "client_id")])
def test_auth_type_names_what_it_needs(auth_type: str, missing: str) -> None:
    """A method given by name without its credentials is an error that names them."""
    with pytest.raises(MissingOptionError, match=f"'{missing}'"):
        told(host=HOST, auth_type=auth_type)


@pytest.mark.parametrize(
    ("auth_type", "credentials"),
    [
        ("azure-cli", {"token": TOKEN}),
        ("pat", {"client_id": "id", "client_secret": SECRET}),
        ("github-oidc", {"client_id": "id", "client_secret": SECRET}),
        ("oauth-m2m", {"token": TOKEN}),
    ],
)
def test_auth_type_that_does_not_use_a_credential_is_refused(
    auth_type: str, credentials: dict[str, str]
) -> None:
    """A method with credentials of another method is an error that names both and shows neither value."""
    with pytest.raises(InvalidOptionError, match="'auth_type'") as caught:
        told(credentials, host=HOST, auth_type=auth_type)
    assert TOKEN not in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "variables",
    [
        {"ARM_CLIENT_ID": "c", "ARM_TENANT_ID": "t", "ARM_CLIENT_SECRET": SECRET},
        {"ARM_USE_MSI": "true"},
        {"GOOGLE_CREDENTIALS": "{}"},
    ],
)
def test_unified_authentication_needs_a_host_alone(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host with ARM_* or Google's variables is enough: databricks-sdk signs in with them."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert told(host=HOST).environment == {HOST_VARIABLE: HOST}


def test_two_unified_methods_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two families of variables are an error that names them, before databricks-sdk refuses them."""
    monkeypatch.setenv("ARM_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("GOOGLE_CREDENTIALS", SECRET)
    with pytest.raises(InvalidOptionError, match="'auth_type'") as caught:
        told(host=HOST)
    assert "ARM_CLIENT_SECRET" in str(caught.value)
    assert "GOOGLE_CREDENTIALS" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("white", ["\n", " ", "\r\n", "\t"])
def test_white_space_around_a_value_is_stripped(
    white: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token is used without its trailing newline, whether from a file or a variable."""
    assert told({"token": f"{TOKEN}{white}"}, host=f"{white}{HOST}").environment == {
        HOST_VARIABLE: HOST,
        "DATABRICKS_TOKEN": TOKEN,
        AUTH_TYPE: "pat",
    }
    monkeypatch.setenv("DATABRICKS_TOKEN", f"{white}{TOKEN}{white}")
    assert told(host=HOST).environment["DATABRICKS_TOKEN"] == TOKEN
    # This applies without options too, although nothing else is exported then.
    assert told().environment == {"DATABRICKS_TOKEN": TOKEN}


@pytest.mark.parametrize("token", ["dapi 123", "dapi\n123", "dapi\x00123", "dapié", "dapi\t1"])
def test_credential_that_no_header_can_carry_is_refused_without_showing_it(token: str) -> None:
    """White space inside a token is one sentence; requests would print the token."""
    with pytest.raises(InvalidOptionError, match="'token' in the credentials") as caught:
        told({"token": token}, host=HOST)
    assert "dapi" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_identity_distinguishes_accounts_of_one_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two OAuth clients of one host differ, and one account differs from itself in another environment."""
    first, second = ({"client_id": name, "client_secret": SECRET} for name in ("a", "b"))
    assert told(first, host=HOST).binders == told(first, host=HOST).binders
    assert told(first, host=HOST).binders != told(second, host=HOST).binders
    before = told().binders
    monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)
    assert told().binders != before
    assert SECRET not in repr(told(first, host=HOST).binders)


@pytest.fixture
def refusing() -> Iterator[str]:
    """An address that refuses connections: its port is bound, but nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that accepts connections and never responds."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def empty() -> Iterator[str]:
    """An address whose server has nothing at all."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_host_that_refuses_connections_is_reported_at_once(refusing: str) -> None:
    """A refused connection is one sentence immediately; databricks-sdk would retry for a quarter of an hour."""
    (identity,) = told({"token": TOKEN}, host=refusing).binders
    with pytest.raises(UnreachableError, match="there is no connection to it") as caught:
        identity.check(30)  # type: ignore[attr-defined]  # a binder may have it
    assert refusing in str(caught.value)
    assert caught.value.__suppress_context__


def test_host_that_never_responds_is_reported_in_time(silent: str) -> None:
    """The time limit is enforced and named."""
    (identity,) = told({"token": TOKEN}, host=silent).binders
    with pytest.raises(UnreachableError, match=r"did not answer within 0\.2 s"):
        identity.check(0.2)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["prod", "DEFAULT"])
def test_host_of_a_profile_is_checked(
    name: str, refusing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host of a profile, or of the default one without options, is read from its file."""
    file = tmp_path / "cfg"
    file.write_text(f"[{name}]\nhost = {refusing}\ntoken = {TOKEN}%\n")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(file))
    endpoint = told(profile="prod") if name == "prod" else told()
    (identity,) = endpoint.binders
    with pytest.raises(UnreachableError, match=refusing):
        identity.check(30)  # type: ignore[attr-defined]


def test_missing_configuration_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a variable and a profile `check` names the remedies, since MLflow would send no request."""
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "absent"))
    (identity,) = told().binders
    with pytest.raises(
        MissingOptionError, match=r"^No Databricks workspace is configured: set DATA"
    ):
        identity.check(1)  # type: ignore[attr-defined]
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "16.4")  # a notebook, which MLflow knows
    identity.check(1)  # type: ignore[attr-defined]


def test_missing_profile_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that no file has is named with the command that adds it."""
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "absent"))
    (identity,) = told(profile="prod").binders
    with pytest.raises(MissingOptionError, match=r"The profile 'prod' of .* --profile prod`"):
        identity.check(1)  # type: ignore[attr-defined]


def test_missing_credentials_are_named(
    empty: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An address in the environment without anything to sign in with is named with the remedies."""
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("DATABRICKS_HOST", empty)
    monkeypatch.setenv("PATH", str(tmp_path))  # neither `az` nor `databricks`
    (identity,) = told().binders
    with pytest.raises(
        MissingOptionError, match=f"^There are no credentials for .* {empty}: set D"
    ):
        identity.check(1)  # type: ignore[attr-defined]


def test_identity_is_mlflows_own_if_nothing_names_one() -> None:
    """Without a value and a variable, two accounts are the same, and none that is named is."""
    assert told().binders == told().binders
    assert told().binders != told({"token": TOKEN}, host=HOST).binders
