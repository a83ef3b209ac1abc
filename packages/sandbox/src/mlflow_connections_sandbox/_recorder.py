"""The outermost layer of every stand-in: it records each request and injects faults before the stand-in sees it."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl

from mlflow_connections.secrets import looks_secret, mask

from ._journal import Journal
from ._loopback import cut

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOKS_EVERY = 0.05
"""Seconds between two checks of a delayed request for the end of the stand-in."""

_REASON_BYTES = 64 * 1024
_REASON_CHARACTERS = 300
_MARKUP_CHARACTERS = 4096
_REASONS = ("error_description", "message", "error", "detail")
"""The keys of a reason in the errors of MLflow, Databricks, Azure, Databand, Snowflake and OAuth."""

_TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


class Fault(NamedTuple):
    """A fault to inject into responses.

    Attributes:
        path: It affects requests whose path contains this text; empty affects all.
        status: Respond with this status; 0 lets the request through (after `delay`).
        body: The body for `status`.
        content_type: Its type; a gateway that is down returns HTML.
        headers: More headers of that response, such as `Retry-After`.
        delay: Seconds to wait first. Alone it delays the response; with `cut` the request hangs.
        cut: Close the connection without a response.
        truncate: Send the head of the real response and this many bytes of its body, then cut. None
            sends all.
        lost: The request is carried out, and the connection closed in place of its response.
        times: The number of requests it affects; None means until cleared.
    """

    path: str = ""
    status: int = 0
    body: str = ""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    cut: bool = False
    truncate: int | None = None
    lost: bool = False
    times: int | None = None


class Faults:
    """The active faults. A test's thread may change them while requests arrive.

    Attributes:
        over: Set while the stand-in stops, which cuts delayed requests.
    """

    def __init__(self) -> None:
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._faults: list[tuple[Fault, int | None]] = []

    def inject(self, fault: Fault) -> None:
        """Add a fault after the active ones."""
        with self._lock:
            self._faults.append((fault, fault.times))

    def clear(self) -> None:
        """Remove all faults: the service has recovered."""
        with self._lock:
            self._faults.clear()

    def take(self, path: str) -> Fault | None:
        """Return the first fault that affects a path, and count it; None if there is none."""
        with self._lock:
            for index, (fault, left) in enumerate(self._faults):
                if fault.path not in path:
                    continue
                if left is not None:
                    if left <= 1:
                        del self._faults[index]
                    else:
                        self._faults[index] = (fault, left - 1)
                return fault
        return None


class RequestRecorder:
    """An ASGI application around another one."""

    def __init__(self, app: "ASGIApp", journal: Journal, faults: Faults) -> None:
        self._app = app
        self._journal = journal
        self._faults = faults

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        noted = _Noted(self._journal, scope, send)
        try:
            fault = self._faults.take(scope["path"])
            noted.is_fault = fault is not None
            if fault is None:
                await self._app(scope, receive, noted)
            elif not await self._play(fault, scope, receive, noted):
                noted.note()
                await cut(scope, receive)
        finally:
            noted.note()

    async def _play(self, fault: Fault, scope: "Scope", receive: "Receive", send: "Send") -> bool:
        """Inject a fault; return whether the response is complete. If not, the connection is cut."""
        until = time.monotonic() + fault.delay
        while (left := until - time.monotonic()) > 0:
            if self._faults.over.is_set():
                return False
            await asyncio.sleep(min(left, _LOOKS_EVERY))
        if fault.cut:
            return False
        if fault.status:
            await _answer(fault, send)
            return True
        if fault.lost:
            await self._app(scope, receive, _drop)
            return False
        if fault.truncate is None:
            await self._app(scope, receive, send)
            return True
        truncated = _Truncated(send, fault.truncate)
        await self._app(scope, receive, truncated)
        return not truncated.is_short


class _Noted:
    """Sends a response, and records it once."""

    def __init__(self, journal: Journal, scope: "Scope", send: "Send") -> None:
        self._journal = journal
        self._scope = scope
        self._send = send
        self._status = 0
        self._started = time.monotonic()
        self._is_noted = False
        self._error: bytes | None = None
        self.is_fault = False

    async def __call__(self, message: "Message") -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            if self._status >= 400 and not _has(message, b"content-encoding"):
                self._error = b""
        elif self._error is not None and len(self._error) < _REASON_BYTES:
            self._error += message.get("body", b"")
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            # Record before the last byte is sent: a client that has its response finds it in the
            # journal.
            self.note()
        await self._send(message)

    def note(self) -> None:
        if not self._is_noted:
            self._is_noted = True
            seconds = time.monotonic() - self._started
            self._journal.add(
                self._scope["method"],
                self._scope["path"],
                self._status,
                seconds,
                is_fault=self.is_fault,
                reason=reason_of(self._error, _secrets_of(self._scope)) if self._error else "",
            )


def _has(message: "Message", name: bytes) -> bool:
    return any(key.lower() == name for key, _ in message.get("headers", ()))


def _secrets_of(scope: "Scope") -> list[str]:
    """Return the credentials of a request, which an error may repeat."""
    named = {b"authorization", b"cookie", b"x-identity-header"}
    values = [value.decode("latin-1") for name, value in scope["headers"] if name in named]
    values += [
        value
        for name, value in parse_qsl(scope.get("query_string", b"").decode("latin-1"))
        if looks_secret(name)
    ]
    return [word for value in values for word in (value, *value.split()) if len(word) > 5]


def reason_of(body: bytes, secrets: Iterable[str] = ()) -> str:
    """Return the text of an error in the services' formats, on one line, or the beginning of the body.

    Args:
        body: The body of the response; JSON of any of the services, or text.
        secrets: Values to hide.
    """
    text = body.decode(errors="replace")
    try:
        found = json.loads(text)
    except ValueError:
        found = _TAG.sub(" ", text[:_MARKUP_CHARACTERS])
    while isinstance(found, dict):
        found = next((found[key] for key in _REASONS if found.get(key)), "")
    return mask(" ".join(str(found).split()), secrets)[:_REASON_CHARACTERS]


async def _drop(_: "Message") -> None:
    """Send nothing."""


async def _answer(fault: Fault, send: "Send") -> None:
    body = fault.body.encode()
    headers = [
        (b"content-type", fault.content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in fault.headers),
    ]
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Truncated:
    """Passes on the head and the first bytes of a response, and drops the rest."""

    def __init__(self, send: "Send", size: int) -> None:
        self._send = send
        self._left = size
        self.is_short = False

    async def __call__(self, message: "Message") -> None:
        if message["type"] == "http.response.body":
            if self.is_short:
                return
            body = message.get("body", b"")
            if len(body) > self._left:
                self.is_short = True
                message = {**message, "body": body[: self._left], "more_body": True}
            self._left -= len(body)
        await self._send(message)
