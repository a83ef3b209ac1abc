"""Connection parameters: the sources that Snowflake's own tools read, under the connector's names."""

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from snowflake.connector.config_manager import CONFIG_MANAGER

from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections_snowflake import _session
from mlflow_connections_snowflake._session import connection_parameters

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
DER = KEY.private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


def pem(passphrase: str = "") -> str:
    """Return the key as text, encrypted if there is a passphrase."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    ).decode()


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without any of Snowflake's variables."""
    for variable in os.environ:
        if variable.startswith(("SNOWFLAKE_", "PRIVATE_KEY_")):
            monkeypatch.delenv(variable)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Write connections.toml, and let the connector read it."""

    def write(text: str) -> None:
        path = tmp_path / "connections.toml"
        path.write_text(text)
        path.chmod(0o600)
        for part in CONFIG_MANAGER._slices:
            if part.section == "connections":
                monkeypatch.setattr(CONFIG_MANAGER, "_slices", [part._replace(path=path)])
        monkeypatch.setattr(CONFIG_MANAGER, "conf_file_cache", None)

    return write


def test_a_key_pair_needs_no_authenticator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key's path is enough, under the connector's name or under snow's."""
    monkeypatch.setenv("SNOWFLAKE_ACCOUNT", "a")
    monkeypatch.setenv("SNOWFLAKE_USER", "u")
    for variable in ("SNOWFLAKE_PRIVATE_KEY_FILE", "SNOWFLAKE_PRIVATE_KEY_PATH"):
        monkeypatch.setenv(variable, "/k.p8")
        assert connection_parameters() == {
            "account": "a",
            "user": "u",
            "private_key_file": "/k.p8",
            "authenticator": "SNOWFLAKE_JWT",
        }
        monkeypatch.delenv(variable)


@pytest.mark.parametrize("passphrase", ["", "pa55phrase"])
@pytest.mark.parametrize("form", ["pem", "one line", "base64"])
def test_a_raw_key_is_read(monkeypatch: pytest.MonkeyPatch, passphrase: str, form: str) -> None:
    """SNOWFLAKE_PRIVATE_KEY_RAW becomes the key that the connector accepts, decrypted."""
    text = pem(passphrase)
    if form == "one line":
        text = text.replace("\n", "\\n")
    elif form == "base64":
        text = base64.b64encode(text.encode()).decode()
    monkeypatch.setenv("SNOWFLAKE_ACCOUNT", "a")
    monkeypatch.setenv("SNOWFLAKE_PRIVATE_KEY_RAW", text)
    if passphrase:
        monkeypatch.setenv("PRIVATE_KEY_PASSPHRASE", passphrase)
    found = connection_parameters()
    assert found == {"account": "a", "private_key": DER, "authenticator": "SNOWFLAKE_JWT"}


@pytest.mark.parametrize("text", ["no key", pem("unknown"), base64.b64encode(b"x").decode()])
def test_a_key_that_cannot_be_read_is_not_shown(text: str) -> None:
    """The message names the fault, and quotes no part of the key."""
    with pytest.raises(InvalidOptionError, match="not a private key in PEM format") as caught:
        connection_parameters(parameters={"account": "a", "private_key_raw": text})
    assert text[:20] not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "authenticator"),
    [
        ({"token": "t"}, "PROGRAMMATIC_ACCESS_TOKEN"),
        ({"token_file_path": "/t"}, "PROGRAMMATIC_ACCESS_TOKEN"),
        ({"token": "t", "authenticator": "oauth"}, "oauth"),
        ({"password": "p"}, None),
        ({"private_key_file": "/k", "token": "t"}, "SNOWFLAKE_JWT"),
    ],
)
def test_a_token_without_an_authenticator_is_a_programmatic_one(
    given: dict[str, str], authenticator: str | None
) -> None:
    """OAuth always names its authenticator, so a bare token is a programmatic access token."""
    assert connection_parameters(parameters=given).get("authenticator") == authenticator


def test_a_named_connection_is_read_from_the_file(connections: Callable[[str], None]) -> None:
    """An entry of connections.toml may have snow's keys, which become the connector's."""
    connections('[work]\naccount = "a"\nuser = "u"\nprivate_key_path = "/k.p8"\n')
    assert connection_parameters("work") == {
        "account": "a",
        "user": "u",
        "private_key_file": "/k.p8",
        "authenticator": "SNOWFLAKE_JWT",
    }


def test_variables_override_a_connection(
    connections: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SNOWFLAKE_CONNECTIONS_<NAME>_<KEY> takes precedence over the file, and works without one."""
    connections('[work]\naccount = "a"\nuser = "u"\npassword = "p"\n')
    monkeypatch.setenv("SNOWFLAKE_CONNECTIONS_WORK_USER", "other")
    monkeypatch.setenv("SNOWFLAKE_CONNECTIONS_CI_ACCOUNT", "b")
    monkeypatch.setenv("SNOWFLAKE_CONNECTIONS_CI_TOKEN", "t")
    assert connection_parameters("work")["user"] == "other"
    assert connection_parameters("ci") == {
        "account": "b",
        "token": "t",
        "authenticator": "PROGRAMMATIC_ACCESS_TOKEN",
    }
    with pytest.raises(MissingOptionError, match=r"no connection 'gone' \(known: work\)"):
        connection_parameters("gone")


def test_the_default_connection_is_the_last_resort(
    connections: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a name and without SNOWFLAKE_ACCOUNT the default connection is used."""
    connections('[default]\naccount = "d"\n')
    assert connection_parameters() == {"account": "d"}
    monkeypatch.setenv("SNOWFLAKE_ACCOUNT", "e")
    assert connection_parameters() == {"account": "e"}


def test_a_password_may_be_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """kedro-snowflake's password_from_env names a variable, which must be set."""
    given: dict[str, Any] = {"account": "a", "user": "u", "password_from_env": "MY_PASSWORD"}
    with pytest.raises(MissingOptionError, match="MY_PASSWORD"):
        connection_parameters(parameters=given)
    monkeypatch.setenv("MY_PASSWORD", "p")
    assert connection_parameters(parameters=given)["password"] == "p"


def test_a_container_signs_in_with_its_services_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Snowflake's file is read again for each session, and explicit parameters take precedence."""
    file = tmp_path / "token"
    file.write_text("first\n")
    monkeypatch.setattr(_session, "_SERVICE_TOKEN", file)
    monkeypatch.setenv("SNOWFLAKE_ACCOUNT", "a")
    monkeypatch.setenv("SNOWFLAKE_HOST", "inner")
    service = {"account": "a", "host": "inner", "authenticator": "oauth"}
    assert connection_parameters() == {**service, "token": "first"}
    file.write_text("second")
    assert connection_parameters() == {**service, "token": "second"}
    monkeypatch.setenv("SNOWFLAKE_USER", "u")
    monkeypatch.setenv("SNOWFLAKE_PASSWORD", "p")
    assert "token" not in connection_parameters()
    file.unlink()
    monkeypatch.delenv("SNOWFLAKE_PASSWORD")
    assert connection_parameters() == {"account": "a", "host": "inner", "user": "u"}
