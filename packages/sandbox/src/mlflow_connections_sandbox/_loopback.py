"""A server on a port of loopback, in a thread of this process."""

import socket
import threading
import time
from typing import TYPE_CHECKING

import uvicorn

from ._wire import CuttableProtocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp


class LoopbackServer:
    """Answers with an ASGI application. After `close` it can be started again, at the same address.

    Attributes:
        name: What it is called in errors.
        port: Its port of 127.0.0.1, taken from the moment it is made.
        url: Where it answers, once started.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket: socket.socket | None = _bind(0)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether it answers."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, app: "ASGIApp") -> None:
        """Answer from now on.

        Raises:
            RuntimeError: The server did not come up.
        """
        config = uvicorn.Config(
            app,
            http=CuttableProtocol,
            ws="none",
            lifespan="off",
            # Cutting finds a connection by the address of its peer, which no header may change.
            proxy_headers=False,
            # The logging of the process belongs to whoever runs the sandbox.
            log_config=None,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
        listening = self._socket or _bind(self.port)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [listening]},
            name=self.name,
            daemon=True,
        )
        self._socket = listening
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError(f"The {self.name} could not listen on {self.url}.")
            time.sleep(0.005)

    def close(self) -> None:
        """Stop answering."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=10)
            self._server = self._thread = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _bind(port: int) -> socket.socket:
    """Take a port of loopback, any free one for 0, without listening yet."""
    # The protocol is named since asyncio turns Nagle's delay off for such sockets alone: without it
    # each answer waits 40 ms for the client's acknowledgement of its head.
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # As servers do: a connection of before that still lingers does not block the port.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
    except OSError:
        taken.close()
        raise
    return taken
