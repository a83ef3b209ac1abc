"""What every stand-in is: an ASGI application on a port of loopback, with a journal and faults."""

import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import uvicorn

from ._faults import Faults
from ._journal import Journal
from ._mlflow_backend import MlflowBackend
from ._recorder import Recorder
from ._wire import CuttableProtocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp


class StandIn(ABC):
    """The server side of one service, over the wire, before a real MLflow server.

    A stand-in is stricter than the service it stands for, never kinder. A subclass brings an ASGI
    application and says what a client must be told to reach it. After `close` it can be started
    again, at the same address and with what it remembers: the service was down.

    Attributes:
        name: Its keyword.
        mlflow: The MLflow server that it stands before.
        folder: Where it may keep files. Made when it is started.
        port: Its port of 127.0.0.1, taken from the moment it is made.
        url: Where it answers, once started.
        journal: What it received.
        faults: What goes wrong on purpose.
    """

    name: ClassVar[str]

    def __init__(self, mlflow_url: str, folder: Path) -> None:
        self.mlflow = MlflowBackend(mlflow_url)
        self.folder = folder
        self.journal = Journal()
        self.faults = Faults()
        self._socket: socket.socket | None = _bind(0)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @abstractmethod
    def app(self) -> "ASGIApp":
        """Make the application that answers."""

    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """Give the variables that point an unmodified client at this stand-in."""

    def start(self) -> None:
        """Answer from now on, in a thread of this process.

        Raises:
            RuntimeError: The server did not come up.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        config = uvicorn.Config(
            Recorder(self.app(), self.journal, self.faults),
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
            name=f"stand-in {self.name}",
            daemon=True,
        )
        self._socket = listening
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
