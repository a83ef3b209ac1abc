"""Sessions with every kind of credentials that Snowflake accepts, as the environment and `snow` name them."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mlflow_connections_snowflake import open_session

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def pem(passphrase: str = "") -> bytes:
    """Return the private key, encrypted with a passphrase if there is one."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def credentials(way: str, account: Any, folder: Path) -> dict[str, str]:
    """Return variables without their prefix, and register their credentials with the account."""
    account.trust_key(PUBLIC.decode())
    file, token = folder / "key.p8", folder / "token"
    file.write_bytes(pem("words"))
    token.write_text(account.token())
    return {
        "key file": {"PRIVATE_KEY_FILE": str(file), "PRIVATE_KEY_FILE_PWD": "words"},
        "key path": {"PRIVATE_KEY_PATH": str(file), "PRIVATE_KEY_FILE_PWD": "words"},
        "raw key": {"PRIVATE_KEY_RAW": pem().decode().replace("\n", "\\n")},
        "token": {"TOKEN": account.token()},
        "token file": {"TOKEN_FILE_PATH": str(token)},
        "oauth": {"TOKEN": account.token(kind="OAUTH"), "AUTHENTICATOR": "oauth"},
        "password": {"PASSWORD": account.password},
    }[way]


WAYS = ["key file", "key path", "raw key", "token", "token file", "oauth", "password"]


@pytest.mark.parametrize("prefix", ["SNOWFLAKE_", "SNOWFLAKE_CONNECTIONS_WORK_"])
@pytest.mark.parametrize("way", WAYS)
def test_signing_in(
    bridge: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str, prefix: str
) -> None:
    """Each method opens a session, from plain variables and from those of a named connection."""
    place = bridge.stand_in.connection()
    given = {
        key.upper(): str(place[key]) for key in ("account", "user", "host", "port", "protocol")
    }
    for name, value in {**given, **credentials(way, bridge.stand_in, tmp_path)}.items():
        monkeypatch.setenv(f"{prefix}{name}", value)
    with open_session("work" if "WORK" in prefix else None) as session:
        assert session.sql("SELECT CURRENT_USER()").collect()[0][0] == "SANDBOX"
