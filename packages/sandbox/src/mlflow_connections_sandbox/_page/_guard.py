"""What keeps the page between a person's browser and this machine."""

from typing import TYPE_CHECKING

from starlette.middleware.trustedhost import TrustedHostMiddleware

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    # Nothing from elsewhere, nothing inline, and nobody else's frame.
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


class Guard:
    """An ASGI application around another one.

    It answers only requests for this machine by its name on loopback: another site's name that was
    made to lead here (DNS rebinding) is refused, so that no site's script can read the page.
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
