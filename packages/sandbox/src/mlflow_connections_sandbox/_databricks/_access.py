"""Authentication: a personal token, and tokens of OAuth clients."""

import base64
import binascii
import secrets
import threading
import time
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse

from ._errors import ApiError


class WorkspaceAccess:
    """The accounts of one workspace.

    Attributes:
        token: The personal access token.
        client_id: The OAuth client's ID.
        client_secret: Its secret.
        other_client_id: The ID of a second OAuth client.
        other_client_secret: Its secret.
        used_by: The account of each accepted request, oldest first: a client's ID, or `token`.
        token_seconds: The validity of an OAuth token in seconds, an hour as on Databricks.
    """

    def __init__(self) -> None:
        self.token = _personal_token()
        self.client_id = secrets.token_hex(16)
        self.client_secret = f"dose{secrets.token_hex(16)}"
        self.other_client_id = secrets.token_hex(16)
        self.other_client_secret = f"dose{secrets.token_hex(16)}"
        self.token_seconds = 3600
        self.used_by: list[str] = []
        self._deadlines: dict[str, tuple[str, float]] = {}
        self._revoked = False
        self._lock = threading.Lock()

    def revoke(self) -> None:
        """Let the personal token and every OAuth token expire."""
        with self._lock:
            self._revoked = True
            self._deadlines.clear()

    def replace_token(self) -> None:
        """Revoke every token, and issue another personal one, which `token` holds."""
        with self._lock:
            self.token = _personal_token()
            self._revoked = False
            self._deadlines.clear()

    def check(self, request: Request) -> None:
        """Check that a request has a valid token.

        Raises:
            ApiError: 401 without a token, 403 with one that is wrong or expired.
        """
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise ApiError(
                401, 401, "Credential was not sent or was of an unsupported type for this API."
            )
        account = self._account_of(token)
        if account is None:
            raise ApiError(403, 403, "Invalid access token.")
        with self._lock:
            self.used_by.append(account)

    def _account_of(self, token: str) -> str | None:
        with self._lock:
            if secrets.compare_digest(token.encode(), self.token.encode()):
                return None if self._revoked else "token"
            client, deadline = self._deadlines.get(token, ("", 0.0))
            return client if deadline > time.monotonic() else None

    async def issue_token(self, request: Request) -> JSONResponse:
        """Answer RFC 6749, 4.4: issue a token for client credentials."""
        form = dict(parse_qsl((await request.body()).decode(errors="replace")))
        if form.get("grant_type") != "client_credentials":
            return _refused(400, "unsupported_grant_type", "Only client_credentials is supported")
        if form.get("scope", "").split() != ["all-apis"]:
            return _refused(400, "invalid_scope", "The scope must be all-apis")
        clients = {
            (self.client_id, self.client_secret),
            (self.other_client_id, self.other_client_secret),
        }
        client = _basic(request)
        if client is None or client not in clients:
            return _refused(401, "invalid_client", "Client authentication failed")
        token = f"eyJ{secrets.token_urlsafe(48)}"
        with self._lock:
            self._deadlines[token] = client[0], time.monotonic() + self.token_seconds
        return JSONResponse(
            {
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": self.token_seconds,
                "scope": "all-apis",
            }
        )


def _personal_token() -> str:
    return f"dapi{secrets.token_hex(16)}"


def _basic(request: Request) -> tuple[str, str] | None:
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user, password


def _refused(status: int, error: str, description: str) -> JSONResponse:
    return JSONResponse({"error": error, "error_description": description}, status)
