"""A client certificate in the form that MLflow reads: one unencrypted PEM file with certificate and key.

`MLFLOW_TRACKING_CLIENT_CERT_PATH` has no counterpart for the key, and with an encrypted key
`requests` waits for a passphrase on the terminal. Both are therefore joined in a file that only
this user can read, which is removed when this process ends.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from mlflow_connections import InvalidOptionError, MissingDependencyError

_KEY = b"PRIVATE KEY-----"
_ENCRYPTED = b"ENCRYPTED"

_joined: dict[tuple[str, str | None, str | None], Path] = {}


def certificate_file(certificate: str, key: str | None, password: str | None) -> str:
    """Return the path of a PEM file with certificate and key: the certificate's own file if it holds both.

    Args:
        certificate: The path of the certificate, with its chain.
        key: The path of its key; None if the certificate's file holds it.
        password: Decrypts the key; None if it is not encrypted.

    Raises:
        InvalidOptionError: A file cannot be read, holds no key, or the password is missing or wrong.
        MissingDependencyError: The key is encrypted and cryptography is not installed.
    """
    chain = _read(certificate, "client_certificate")
    secret = chain if key is None else _read(key, "client_key")
    if _KEY not in secret:
        place = certificate if key is None else key
        raise InvalidOptionError(
            f"{place} holds no private key: set 'client_key' to the file that does."
        )
    if key is None and _ENCRYPTED not in secret:
        return certificate
    entry = certificate, key, password
    if entry not in _joined or not _joined[entry].exists():
        plain = _decrypted(secret, password, key or certificate) if _ENCRYPTED in secret else secret
        _joined[entry] = _write(chain if key is not None else b"", plain, chain)
    return str(_joined[entry])


def _read(path: str, option: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidOptionError(f"'{option}': {path} cannot be read: {error.strerror}.") from None


def _decrypted(pem: bytes, password: str | None, place: str) -> bytes:
    if password is None:
        raise InvalidOptionError(
            f"The key in {place} is encrypted: set 'client_key_password' in the credentials."
        )
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise MissingDependencyError(
            f"The key in {place} is encrypted. Run: pip install 'mlflow-connections-http[encrypted-key]'."
        ) from None
    try:
        key = serialization.load_pem_private_key(pem, password.encode())
    except (ValueError, TypeError):
        raise InvalidOptionError(
            f"'client_key_password' does not decrypt the key in {place}."
        ) from None
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(first: bytes, key: bytes, chain: bytes) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="mlflow-connections-"))  # 0700
    path, owner = folder / "client.pem", os.getpid()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write((first or chain).rstrip() + b"\n" + key)

    def remove() -> None:
        # a forked child ends earlier, while its parent still needs the file
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return path
