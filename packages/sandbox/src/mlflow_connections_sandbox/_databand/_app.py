"""The tracker's HTTP side: authentication and endpoints."""

import gzip
import json
import secrets
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ._check import Wrong
from ._database import TrackerDatabase
from ._schemas import BODIES

if TYPE_CHECKING:
    from starlette.requests import Request

_LARGEST = 16 * 2**20
"""The maximum size of a request's JSON, in bytes."""
_CSRF_COOKIE = "X-CSRF-TOKEN"
_CSRF_HEADER = "X-CSRFToken"
_SESSION_COOKIE = "session"


class TrackerAccount(NamedTuple):
    """The credentials that the tracker accepts.

    Attributes:
        token: A personal access token.
        username: The user who can log in.
        password: The user's password.
    """

    token: str
    username: str
    password: str


class _Access:
    """Checks requests: each needs the bearer token, or a session that has logged in."""

    def __init__(self, account: TrackerAccount) -> None:
        self.account = account
        self._csrf: set[str] = set()
        self._sessions: set[str] = set()

    def refusal(self, request: "Request") -> Response | None:
        """Return the response to a refused request, or None for an allowed one."""
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
        """Create a CSRF token, as a cookie."""
        token = secrets.token_hex(16)
        self._csrf.add(token)
        answer = JSONResponse({})
        answer.set_cookie(_CSRF_COOKIE, token)
        return answer

    def log_in(self, request: "Request", body: object) -> Response:
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

    def _has_csrf(self, request: "Request") -> bool:
        token = request.cookies.get(_CSRF_COOKIE)
        return token in self._csrf and request.headers.get(_CSRF_HEADER) == token


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)


def make_app(database: TrackerDatabase, account: TrackerAccount) -> Starlette:
    """Return the application."""
    tracker = _Tracker(database, account)
    return Starlette(
        routes=[
            Route("/api/v1/auth/ping", tracker.ping, methods=["GET"]),
            Route("/api/v1/auth/csrf", tracker.csrf, methods=["GET"]),
            Route("/api/v1/auth/login", tracker.log_in, methods=["POST"]),
            Route("/api/v1/tracking/{endpoint}", tracker.track, methods=["POST"]),
            Route("/api/v1/log_exception", tracker.log_exception, methods=["POST"]),
            # Not part of the tracker: the received data, for people and for tests.
            Route("/sandbox/runs", tracker.runs, methods=["GET"]),
            Route("/sandbox/runs/{uid}", tracker.run, methods=["GET"]),
        ]
    )


class _Tracker:
    """Responds to requests."""

    def __init__(self, database: TrackerDatabase, account: TrackerAccount) -> None:
        self._database = database
        self._access = _Access(account)

    async def ping(self, _: "Request") -> Response:
        return JSONResponse({})

    async def csrf(self, _: "Request") -> Response:
        return self._access.csrf()

    async def log_in(self, request: "Request") -> Response:
        try:
            return self._access.log_in(request, await _body(request))
        except Wrong as wrong:
            return _refusal(wrong)

    async def track(self, request: "Request") -> Response:
        if (refusal := self._access.refusal(request)) is not None:
            return refusal
        endpoint = request.path_params["endpoint"]
        if endpoint not in BODIES:
            return JSONResponse({"error": f"there is no tracking/{endpoint}"}, 404)
        try:
            body = await _body(request)
            BODIES[endpoint](body, "")
            answer = self._database.take(endpoint, body)
        except Wrong as wrong:
            return _refusal(wrong)
        return JSONResponse(answer if isinstance(answer, str) else {})

    async def log_exception(self, request: "Request") -> Response:
        # dbnd reports its own faults to this endpoint, as free text.
        return self._access.refusal(request) or JSONResponse({})

    async def runs(self, _: "Request") -> Response:
        return JSONResponse(self._database.runs())

    async def run(self, request: "Request") -> Response:
        try:
            return JSONResponse(self._database.run(request.path_params["uid"]))
        except KeyError:
            return JSONResponse({"error": "there is no such run"}, 404)


def _refusal(wrong: Wrong) -> Response:
    return JSONResponse({"error": str(wrong)}, 400)


async def _body(request: "Request") -> Any:
    """Read a compressed JSON body.

    Raises:
        Wrong: It is not compressed, not JSON, or too large.
    """
    if request.headers.get("content-type") != "application/json":
        raise Wrong("the content type must be application/json")
    if request.headers.get("content-encoding") != "gzip":
        raise Wrong("the content encoding must be gzip")
    if not request.headers.get("x-databand-version"):
        raise Wrong("the header X-Databand-Version is missing")
    try:
        content = gzip.decompress(await request.body())
        if len(content) > _LARGEST:
            raise Wrong(f"the body has more than {_LARGEST} bytes")
        return json.loads(content, parse_constant=_no_constant)
    except (OSError, EOFError, zlib.error) as error:
        raise Wrong("the body is not gzip") from error
    except ValueError as error:
        raise Wrong(f"the body is not JSON: {error}") from error


def _no_constant(name: str) -> Any:
    raise Wrong(f"the body is not JSON: {name} stands in it bare")
