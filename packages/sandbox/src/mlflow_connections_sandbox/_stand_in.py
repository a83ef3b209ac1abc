"""What every stand-in is: an ASGI application on a port of loopback, with a journal and faults."""

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import uvicorn

from ._faults import Fault, Faults
from ._journal import Journal
from ._mlflow_server import free_port

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class StandIn(ABC):
    """The server side of one service, over the wire, before a real MLflow server.

    A stand-in is stricter than the service it stands for, never kinder. A subclass brings an ASGI
    application and says what a client must be told to reach it.

    Attributes:
        name: Its keyword.
        mlflow_url: The MLflow server that it stands before.
        url: Where it answers, once started.
        journal: What it received.
        faults: What goes wrong on purpose.
    """

    name: ClassVar[str]

    def __init__(self, mlflow_url: str) -> None:
        self.mlflow_url = mlflow_url
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.journal = Journal()
        self.faults = Faults()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @abstractmethod
    def app(self) -> "ASGIApp":
        """Make the application that answers."""

    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """Give the variables that point an unmodified client at this stand-in."""

    def start(self) -> None:
        """Answer from now on, in a thread of this process."""
        config = uvicorn.Config(
            _Recorded(self.app(), self.journal, self.faults),
            host="127.0.0.1",
            port=self.port,
            log_level="warning",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, name=f"stand-in {self.name}", daemon=True
        )
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError(f"The stand-in '{self.name}' could not listen on {self.url}.")
            time.sleep(0.005)

    def close(self) -> None:
        """Stop answering."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=10)
            self._server = self._thread = None


class _Recorded:
    """Notes each request in the journal and plays the faults in force."""

    def __init__(self, app: "ASGIApp", journal: Journal, faults: Faults) -> None:
        self._app = app
        self._journal = journal
        self._faults = faults

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 0

        async def noting(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            fault = self._faults.take(scope["path"])
            if fault is None:
                await self._app(scope, receive, noting)
            else:
                await _play(fault, self._app, scope, receive, noting)
        finally:
            self._journal.add(
                scope["method"], scope["path"], status, time.monotonic() - started
            )


class _ConnectionCut(Exception):  # noqa: N818 - not an error: what was asked for
    """Makes uvicorn close the connection."""


async def _play(
    fault: Fault, app: "ASGIApp", scope: "Scope", receive: "Receive", send: "Send"
) -> None:
    await asyncio.sleep(fault.delay)
    if fault.cut:
        _abort(send)
        return
    if fault.status:
        headers = [(b"content-type", fault.content_type.encode())]
        headers += [(k.encode(), v.encode()) for k, v in fault.headers]
        await send({"type": "http.response.start", "status": fault.status, "headers": headers})
        await send({"type": "http.response.body", "body": fault.body.encode()})
        return
    if fault.truncate is None:
        await app(scope, receive, send)
        return
    await app(scope, receive, send)
