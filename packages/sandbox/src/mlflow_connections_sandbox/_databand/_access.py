"""Who may talk to the tracker: a bearer of the token, or a session that logged in."""

import secrets
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

_CSRF_COOKIE = "X-CSRF-TOKEN"
_CSRF_HEADER = "X-CSRFToken"
_SESSION_COOKIE = "session"


class Account(NamedTuple):
    """What opens the tracker.

    Attributes:
        token: A personal access token.
        username: Who may log in.
        password: With what.
    """

    token: str
    username: str
    password: str


class Access:
    """Knows the account and the open sessions."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._csrf: set[str] = set()
        self._sessions: set[str] = set()

    def refusal(self, request: Request) -> Response | None:
        """Give the answer to a request that may not pass; None for one that may."""
        authorization = request.headers.get("authorization")
        if authorization is not None:
            if secrets.compare_digest(authorization, f"Bearer {self.account.token}"):
                return None
            return _error(401, "the token is not valid")
        if request.cookies.get(_SESSION_COOKIE) not in self._sessions:
            return _error(401, "log in, or send a token")
        if not self._has_csrf(request):
            return _error(403, f"the header {_CSRF_HEADER} and the cookie do not agree")
        return None

    def csrf(self) -> Response:
        """Hand out a token against forged requests, as a cookie."""
        token = secrets.token_hex(16)
        self._csrf.add(token)
        answer = JSONResponse({})
        answer.set_cookie(_CSRF_COOKIE, token)
        return answer

    def log_in(self, request: Request, body: object) -> Response:
        """Open a session."""
        if not self._has_csrf(request):
            return _error(403, f"the header {_CSRF_HEADER} and the cookie do not agree")
        if body != {"username": self.account.username, "password": self.account.password}:
            return _error(401, "the user or the password is not right")
        session = secrets.token_hex(16)
        self._sessions.add(session)
        answer = JSONResponse({})
        answer.set_cookie(_SESSION_COOKIE, session, httponly=True)
        return answer

    def _has_csrf(self, request: Request) -> bool:
        token = request.cookies.get(_CSRF_COOKIE)
        return token in self._csrf and request.headers.get(_CSRF_HEADER) == token


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
