"""A server on a loopback port, in a thread of this process, whose connections can be cut."""

import asyncio
import logging
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ._mlflow_server import taken

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope

_TAKEN_SECONDS = 15.0
# Keyed by both ends of the connection: two stand-ins may see clients with the same port.
_transports: dict[tuple[object, object], asyncio.Transport] = {}


class TlsFiles(NamedTuple):
    """The PEM files of a TLS server.

    Attributes:
        certificate: Its certificate.
        key: The key of that certificate.
        client_authority: The authority of the clients' certificates, if one is required; None
            accepts every client.
    """

    certificate: Path
    key: Path
    client_authority: Path | None = None


class LoopbackServer:
    """Serves an ASGI application. After `close` it can start again at the same address.

    Attributes:
        name: Its name in errors.
        port: Its port of 127.0.0.1, reserved when it is created.
        url: Its URL, once started.
    """

    def __init__(self, name: str, tls: TlsFiles | None = None, port: int = 0) -> None:
        """Reserve a port.

        Args:
            name: Its name in errors.
            tls: The files for TLS, which must exist when it starts; None without TLS.
            port: The port to use; 0 for any free one.

        Raises:
            RuntimeError: Another program uses the port.
        """
        self.name = name
        self._tls = tls
        try:
            self._socket: socket.socket | None = _bind(port)
        except OSError:
            raise taken(name, port) from None
        self.port: int = self._socket.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Return whether it is serving."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, app: "ASGIApp") -> None:
        """Start serving.

        Raises:
            RuntimeError: The server did not start, or another program has taken its port meanwhile.
        """
        config = uvicorn.Config(
            app,
            http=CuttableProtocol,
            ws="none",
            lifespan="off",
            # Cutting finds a connection by its peer's address, which no header may change.
            proxy_headers=False,
            # The process that runs the sandbox configures its own logging.
            log_config=None,
            access_log=False,
            log_level=None,
            timeout_graceful_shutdown=1,
        )
        if self._tls is not None:
            config.ssl_certfile, config.ssl_keyfile = self._tls.certificate, self._tls.key
            if self._tls.client_authority is not None:
                config.ssl_ca_certs = str(self._tls.client_authority)
                config.ssl_cert_reqs = ssl.CERT_REQUIRED
        _log_warnings_only()
        listening = self._socket or self._bind_again()
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

    def _bind_again(self) -> socket.socket:
        """Take the port again, which a connection of another program may use for a moment."""
        until = time.monotonic() + _TAKEN_SECONDS
        while True:
            try:
                return _bind(self.port)
            except OSError:  # noqa: PERF203 - a retry
                if time.monotonic() > until:
                    raise taken(self.name, self.port) from None
                time.sleep(0.05)

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=10)
            self._server = self._thread = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _log_warnings_only() -> None:
    """Set the levels of uvicorn's loggers once; each time would clear the caches of all loggers."""
    for name in ("uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        if logger.level != logging.WARNING:
            logger.setLevel(logging.WARNING)


def _bind(port: int) -> socket.socket:
    """Reserve a loopback port, any free one for 0, without listening yet."""
    # The protocol is given because asyncio disables Nagle's algorithm only for such sockets:
    # otherwise each response waits 40 ms for the client to acknowledge its head.
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # As servers do: a lingering connection of an earlier server does not block the port.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
    except OSError:
        taken.close()
        raise
    return taken


class CuttableProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, which registers its transports for `cut`."""

    def connection_made(  # type: ignore[override]  # uvicorn narrows the transport the same way
        self, transport: asyncio.Transport
    ) -> None:
        """Register the transport."""
        super().connection_made(transport)
        _transports[self.server, self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the transport."""
        _transports.pop((self.server, self.client), None)
        super().connection_lost(exc)


async def cut(scope: "Scope", receive: "Receive") -> None:
    """Close a request's connection after the bytes already sent, and wait until it is closed.

    uvicorn would answer 500 for an application that returns without a response, unless it knows that
    the client is gone.
    """
    transport = _transports.get((scope["server"], scope["client"]))
    if transport is not None:
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass
