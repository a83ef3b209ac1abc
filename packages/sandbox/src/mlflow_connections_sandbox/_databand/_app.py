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

    async def ping(_: "Request") -> Response:
        return JSONResponse({})

    async def csrf(_: "Request") -> Response:
        return access.csrf()

    async def log_in(request: "Request") -> Response:
        try:
            return access.log_in(request, await _body(request))
        except Wrong as wrong:
            return _refusal(wrong)

    async def track(request: "Request") -> Response:
        if (refusal := access.refusal(request)) is not None:
            return refusal
        endpoint = request.path_params["endpoint"]
        if endpoint not in BODIES:
            return JSONResponse({"error": f"there is no tracking/{endpoint}"}, 404)
        try:
            body = await _body(request)
            BODIES[endpoint](body, "")
            answer = books.take(endpoint, body)
        except Wrong as wrong:
            return _refusal(wrong)
        return JSONResponse({} if answer is None or not isinstance(answer, str) else answer)

    async def log_exception(request: "Request") -> Response:
        # dbnd tells of its own faults here; what it says is free text.
        return access.refusal(request) or JSONResponse({})

    async def runs(_: "Request") -> Response:
        return JSONResponse(books.runs())

    async def run(request: "Request") -> Response:
        try:
            return JSONResponse(books.run(request.path_params["uid"]))
        except KeyError:
            return JSONResponse({"error": "there is no such run"}, 404)

    return Starlette(
        routes=[
            Route("/api/v1/auth/ping", ping, methods=["GET"]),
            Route("/api/v1/auth/csrf", csrf, methods=["GET"]),
            Route("/api/v1/auth/login", log_in, methods=["POST"]),
            Route("/api/v1/tracking/{endpoint}", track, methods=["POST"]),
            Route("/api/v1/log_exception", log_exception, methods=["POST"]),
            # Not the tracker's own: what it received, for people and for tests.
            Route("/sandbox/runs", runs, methods=["GET"]),
            Route("/sandbox/runs/{uid}", run, methods=["GET"]),
        ]
    )


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
