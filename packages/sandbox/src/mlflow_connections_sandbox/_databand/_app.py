"""The tracker's HTTP side."""

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ._access import Access
from ._books import Books
from ._check import Wrong
from ._schemas import BODIES

if TYPE_CHECKING:
    from starlette.requests import Request

_LARGEST = 16 * 2**20
"""Bytes of JSON that one request may hold."""


def make_app(books: Books, access: Access) -> Starlette:
    """Make the application that answers."""
    tracker = _Tracker(books, access)
    return Starlette(
        routes=[
            Route("/api/v1/auth/ping", tracker.ping, methods=["GET"]),
            Route("/api/v1/auth/csrf", tracker.csrf, methods=["GET"]),
            Route("/api/v1/auth/login", tracker.log_in, methods=["POST"]),
            Route("/api/v1/tracking/{endpoint}", tracker.track, methods=["POST"]),
            Route("/api/v1/log_exception", tracker.log_exception, methods=["POST"]),
            # Not the tracker's own: what it received, for people and for tests.
            Route("/sandbox/runs", tracker.runs, methods=["GET"]),
            Route("/sandbox/runs/{uid}", tracker.run, methods=["GET"]),
        ]
    )


class _Tracker:
    """Answers the requests."""

    def __init__(self, books: Books, access: Access) -> None:
        self._books = books
        self._access = access

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
            answer = self._books.take(endpoint, body)
        except Wrong as wrong:
            return _refusal(wrong)
        return JSONResponse(answer if isinstance(answer, str) else {})

    async def log_exception(self, request: "Request") -> Response:
        # dbnd tells of its own faults here; what it says is free text.
        return self._access.refusal(request) or JSONResponse({})

    async def runs(self, _: "Request") -> Response:
        return JSONResponse(self._books.runs())

    async def run(self, request: "Request") -> Response:
        try:
            return JSONResponse(self._books.run(request.path_params["uid"]))
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
