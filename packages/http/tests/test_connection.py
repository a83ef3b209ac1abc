"""The options: their results, their contradictions, and the contract of every connection."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections import ConnectionsError, InvalidOptionError, MissingOptionError, resolve
from mlflow_connections.testing import ConnectionContract
from mlflow_connections_http._certificates import certificate_file

URL = "https://mlflow.example.com"


class TestClient(ConnectionContract):
    """A client with a secret."""

    keyword = "http"
    options = {"url": f"{URL}/", "issuer": "https://id.example.com", "client_id": "trainer"}  # noqa: RUF012
    credentials = {"client_secret": "s3cr3t-of-the-test"}  # noqa: RUF012
    tracking_uri = URL


class TestTokenFile(ConnectionContract):
    """A token in a file."""

    keyword = "http"
    options = {"url": URL, "token_file": "/var/run/token"}  # noqa: RUF012
    tracking_uri = URL


class TestHeaders(ConnectionContract):
    """Only secret headers."""

    keyword = "http"
    options = {"url": URL}  # noqa: RUF012
    credentials = {"headers": {"CF-Access-Client-Secret": "s3cr3t-of-the-test"}}  # noqa: RUF012
    tracking_uri = URL


@pytest.mark.parametrize(
    ("credentials", "options", "said"),
    [
        ({}, {"url": "mlflow.example.com"}, "'url' must begin with https://"),
        ({}, {"url": "https://user:s3cr3t@m"}, "must have no user, query or fragment"),
        ({}, {"url": "http://mlflow.example.com"}, "allow_http: true"),
        (
            {},
            {"token_file": "a", "google_audience": "b"},
            "'token_file' and 'google_audience' are given together",
        ),
        ({}, {"client_id": "c"}, "either 'issuer' or 'token_url'"),
        (
            {},
            {"client_id": "c", "issuer": "https://i", "token_url": "https://t"},
            "either 'issuer' or 'token_url'",
        ),
        (
            {},
            {"client_id": "c", "issuer": "https://i"},
            "either 'client_secret' in the credentials",
        ),
        ({}, {"issuer": "https://i"}, "'issuer' is given without 'client_id'"),
        ({"username": "u"}, {}, "'username' and 'password' belong together"),
        ({}, {"token_command": ["az", 1]}, "must be a list of strings"),
        (
            {},
            {"token_command": "az account"},
            "'token_command' in the connection options must be a list",
        ),
        ({"headers": {"X": "s3cr3t\n"}}, {}, "'X' is not a header"),
        ({"headers": "s3cr3t"}, {}, "'headers' in the credentials must be a mapping."),
        ({}, {"client_key": "k"}, "'client_key' is given without 'client_certificate'"),
    ],
)
def test_invalid_options_are_one_sentence(
    credentials: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    """The message names the fault, the place and the remedy, and no secret."""
    with pytest.raises((InvalidOptionError, MissingOptionError)) as caught:
        resolve("http", credentials, {"url": URL, **options})
    assert said in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_a_given_source_overrides_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of a client, as a sandbox prints them, do not contradict a token file in the options."""
    monkeypatch.setenv("MLFLOW_CONNECTIONS_HTTP_CLIENT_ID", "trainer")
    monkeypatch.setenv("MLFLOW_CONNECTIONS_HTTP_ISSUER", "https://id.example.com")
    assert resolve("http", {}, {"url": URL, "token_file": "/t"}).tracking_uri == URL


def test_the_repr_shows_no_secret() -> None:
    """Neither the endpoint's repr nor its authenticator's shows a secret."""
    endpoint = resolve("http", {"username": "u", "password": "s3cr3t"}, {"url": URL})
    assert "s3cr3t" not in repr(endpoint) + repr(endpoint.authenticator) + repr(endpoint.binders)
    assert repr(endpoint.authenticator) == "<HttpAuthenticator for https://mlflow.example.com:443>"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate, its key, and its key encrypted with `pass`."""
    folder = tmp_path_factory.mktemp("pem")
    run = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=me",
        "-days",
        "1",
    ]
    subprocess.run(
        [*run, "-keyout", folder / "key", "-out", folder / "cert"], check=True, capture_output=True
    )
    encrypt = ["openssl", "rsa", "-aes256", "-passout", "pass:pass"]
    subprocess.run(
        [*encrypt, "-in", folder / "key", "-out", folder / "locked"],
        check=True,
        capture_output=True,
    )
    return folder


def test_certificate_and_key_are_joined_for_mlflow(pem: Path) -> None:
    """MLflow gets one file with both, readable only by this user, and the same file the next time."""
    endpoint = resolve(
        "http",
        {},
        {"url": URL, "client_certificate": str(pem / "cert"), "client_key": str(pem / "key")},
    )
    path = Path(endpoint.environment["MLFLOW_TRACKING_CLIENT_CERT_PATH"])
    assert path.read_text().count("-----BEGIN") == 2
    assert path.stat().st_mode & 0o077 == 0
    assert certificate_file(str(pem / "cert"), str(pem / "key"), None) == str(path)
    assert endpoint.authenticator is not None
    assert endpoint.authenticator.needs_parent()


def test_a_file_with_both_is_used_as_it_is(pem: Path) -> None:
    """A file that MLflow can already read is not copied."""
    both = pem / "both"
    both.write_bytes((pem / "cert").read_bytes() + (pem / "key").read_bytes())
    assert certificate_file(str(both), None, None) == str(both)


def test_an_encrypted_key_is_decrypted(pem: Path) -> None:
    """An encrypted key, for which MLflow would prompt for a passphrase, is decrypted."""
    joined = certificate_file(str(pem / "cert"), str(pem / "locked"), "pass")
    assert "ENCRYPTED" not in Path(joined).read_text()


@pytest.mark.parametrize(
    ("certificate", "key", "password", "said"),
    [
        ("none", None, None, "cannot be read: No such file"),
        ("cert", None, None, "holds no private key"),
        ("cert", "locked", None, "is encrypted: set 'client_key_password'"),
        ("cert", "locked", "wr0ng", "does not decrypt the key"),
    ],
)
def test_an_invalid_certificate_is_one_sentence(
    certificate: str, key: str | None, password: str | None, said: str, pem: Path
) -> None:
    """The message names the file and the option."""
    with pytest.raises(ConnectionsError, match=said) as caught:
        certificate_file(str(pem / certificate), key and str(pem / key), password)
    assert "wr0ng" not in str(caught.value)


def test_the_joined_file_ends_with_its_process(pem: Path) -> None:
    """No key remains on the disk."""
    code = (
        "import sys; from mlflow_connections_http._certificates import certificate_file;"
        "print(certificate_file(*sys.argv[1:], None))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, pem / "cert", pem / "key"],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert not Path(done.stdout.strip()).exists()
