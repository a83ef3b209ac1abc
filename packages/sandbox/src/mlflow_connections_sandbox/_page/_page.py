"""The page's server, on its own loopback port."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from mlflow_connections_sandbox._loopback import LoopbackServer
from mlflow_connections_sandbox._mlflow_backend import MlflowBackend
from mlflow_connections_sandbox._stand_in import StandIn

from ._outboxes import Outboxes
from ._runs import newest_runs
from ._view import shown, view

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_STATIC = Path(__file__).with_name("static")
_HEADERS = {
    # Allows nothing from other origins, nothing inline, and no frame on another site.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    # The next sandbox may have this one's port.
    "cache-control": "no-store",
}


class Page:
    """A read-only web page about a sandbox.

    Attributes:
        url: Its URL, once started.
        port: Its port.
    """

    def __init__(
        self, mlflow_url: str, folder: Path, stand_ins: Sequence[StandIn], port: int = 0
    ) -> None:
        self._mlflow = MlflowBackend(mlflow_url)
        self._folder = folder
        self._stand_ins = tuple(stand_ins)
        self._outboxes = Outboxes()
        self._server = LoopbackServer("sandbox's page", port=port)
        self.url = self._server.url
        self.port = self._server.port

    def app(self) -> "ASGIApp":
        """Create the ASGI application."""
        routes = [
            Route("/state.json", self._state),
            Route("/runs.json", self._runs),
            Route("/outboxes.json", self._waiting),
            Mount("/", StaticFiles(directory=_STATIC, html=True)),
        ]
        return Guard(Starlette(routes=routes))

    def start(self) -> None:
        """Start serving, in a thread of this process.

        Raises:
            RuntimeError: The server did not start.
        """
        self._server.start(self.app())

    def close(self) -> None:
        """Stop serving; an open page shows that the sandbox has ended."""
        self._server.close()

    # Separate requests, so that a slow MLflow server or a slow disk delays nothing else.

    def _state(self, request: "Request") -> Response:  # noqa: ARG002 - an endpoint's signature
        return _answer(view(self._mlflow.url, self._folder, self._stand_ins))

    def _runs(self, request: "Request") -> Response:  # noqa: ARG002
        return _answer(shown(newest_runs(self._mlflow)))

    def _waiting(self, request: "Request") -> Response:  # noqa: ARG002
        return _answer(shown(self._outboxes.table()))


def _answer(value: Mapping[str, Any]) -> Response:
    # Encode as ASCII: received data may contain halves of surrogate pairs, which UTF-8 cannot
    # encode.
    return Response(json.dumps(value), media_type="application/json")


class Guard:
    """An ASGI application around another one.

    It answers only requests for this machine by its name on loopback. A name of another site that
    was pointed to this machine (DNS rebinding) is refused, so that no site's script can read the
    page.
    """

    def __init__(self, app: "ASGIApp") -> None:
        hosts = ["127.0.0.1", "localhost"]
        self._app = TrustedHostMiddleware(app, allowed_hosts=hosts, www_redirect=False)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        async def guarded(message: "Message") -> None:
            if message["type"] == "http.response.start":
                more = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, receive, guarded)
