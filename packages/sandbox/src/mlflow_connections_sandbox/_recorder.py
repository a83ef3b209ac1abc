"""The outermost layer of every stand-in: it notes each request and plays the faults in force."""

import asyncio
import time
from typing import TYPE_CHECKING

from ._faults import Fault, Faults
from ._journal import Journal
from ._wire import cut

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOKS_EVERY = 0.05
"""Seconds between two looks of what is delayed at whether the stand-in ends."""


class Recorder:
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
        """Play a fault, and tell whether the answer is whole; where it is not, the connection is cut."""
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
        if fault.truncate is None:
            await self._app(scope, receive, send)
            return True
        truncated = _Truncated(send, fault.truncate)
        await self._app(scope, receive, truncated)
        return not truncated.is_short


class _Noted:
    """Sends an answer, and notes it once."""

    def __init__(self, journal: Journal, scope: "Scope", send: "Send") -> None:
        self._journal = journal
        self._scope = scope
        self._send = send
        self._status = 0
        self._started = time.monotonic()
        self._is_noted = False
        self.is_fault = False

    async def __call__(self, message: "Message") -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif not message.get("more_body", False):
            # Before the last byte: a client that has its answer finds it in the journal.
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
            )


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
    """Passes the head and the first bytes of an answer on, and drops the rest."""

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
