"""Check how a client signs in: password, programmatic access token, OAuth token or key pair."""

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ._errors import SqlError
from .external._clouds import ACCOUNT


class Token(NamedTuple):
    """An issued token.

    Attributes:
        kind: PROGRAMMATIC_ACCESS_TOKEN or OAUTH.
        user: The user that it signs in.
        role: The only role of its sessions, or None if it is not restricted.
    """

    kind: str
    user: str
    role: str | None


@dataclass
class Users:
    """The users of an account and their credentials.

    Attributes:
        passwords: The password of each user.
        tokens: The user and the role of each token.
        public_keys: The registered public keys of each user, in PEM.
    """

    passwords: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    public_keys: dict[str, list[str]] = field(default_factory=dict)

    def add_token(self, kind: str, user: str, role: str | None) -> str:
        """Create a token and return it."""
        token = secrets.token_urlsafe(32)
        self.tokens[token] = Token(kind, user, role)
        return token

    def sign_in(self, data: Mapping[str, Any]) -> Token:
        """Check the data of a login request and return the user and the credential.

        Raises:
            SqlError: The password, token or signature is not valid.
        """
        kind = str(data.get("AUTHENTICATOR") or "SNOWFLAKE").upper()
        user = str(data.get("LOGIN_NAME", "")).upper()
        if kind == "SNOWFLAKE_JWT":
            return Token(kind, self._signed_by(str(data.get("TOKEN", "")), user), None)
        if kind in {"PROGRAMMATIC_ACCESS_TOKEN", "OAUTH"}:
            token = self.tokens.get(str(data.get("TOKEN", "")))
            if token is None or token.kind != kind or (user and token.user != user):
                raise _INVALID[kind]
            return token
        password = str(data.get("PASSWORD", ""))
        token = self.tokens.get(password)
        if token is not None and token.kind != "OAUTH" and token.user == user:
            # A programmatic access token is accepted in place of a password.
            return token
        expected = self.passwords.get(user)
        if expected is None or not secrets.compare_digest(expected, password):
            raise SqlError(390100, "08001", "Incorrect username or password was specified.")
        return Token(kind, user, None)

    def _signed_by(self, token: str, user: str) -> str:
        """Return the user whose registered key signed a token."""
        import jwt

        for pem in self.public_keys.get(user, ()):
            try:
                claims = jwt.decode(token, pem, ["RS256"], options={"require": ["exp", "iss"]})
            except jwt.InvalidTokenError:
                continue
            subject = f"{ACCOUNT}.{user}"
            if claims.get("sub") == subject and claims["iss"] == f"{subject}.{_fingerprint(pem)}":
                return user
        raise _INVALID["SNOWFLAKE_JWT"]


_INVALID = {
    "PROGRAMMATIC_ACCESS_TOKEN": SqlError(394400, "08001", "Programmatic access token is invalid."),
    "OAUTH": SqlError(390303, "08001", "Invalid OAuth access token."),
    "SNOWFLAKE_JWT": SqlError(390144, "08001", "JWT token is invalid."),
}


def _fingerprint(pem: str) -> str:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_public_key,
    )

    der = load_pem_public_key(pem.encode()).public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return f"SHA256:{base64.b64encode(hashlib.sha256(der).digest()).decode()}"
