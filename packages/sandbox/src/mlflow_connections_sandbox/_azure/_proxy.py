"""An HTTP proxy that accepts CONNECT, terminates TLS, and lets nothing leave the machine.

Azure's clients talk to https://management.azure.com and other fixed hosts, but they do read
HTTPS_PROXY and REQUESTS_CA_BUNDLE.
"""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import trustme


class Proxy:
    """Forwards requests for known hosts, in plain HTTP, to one port of this machine.

    Attributes:
        url: For HTTPS_PROXY, once started.
        refused: Hosts that the proxy says it cannot reach.
        silent: Hosts that never answer, so that the connection hangs.
    """

    def __init__(self, hosts: tuple[str, ...], target_port: int, folder: Path) -> None:
        """Prepare a proxy.

        Args:
            hosts: The hosts it answers for; a leading `*.` stands for one label.
            target_port: The port that gets the plain requests.
            folder: The folder for the certificate of the authority that signed the hosts' one.
        """
        self.url = ""
        self.refused: set[str] = set()
        self.silent: set[str] = set()
        self._hosts = hosts
        self._target_port = target_port
        self._folder = folder
        self._authority = trustme.CA()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event
        self._thread: threading.Thread | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._port = 0

    @property
    def bundle(self) -> Path:
        """The file for REQUESTS_CA_BUNDLE."""
        return self._folder / "ca.pem"

    def start(self) -> None:
        """Listen in a thread of this process."""
        self._authority.cert_pem.write_to_path(self.bundle)
        listening = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening)), name="azure proxy", daemon=True
        )
        self._thread.start()
        listening.wait()

    def close(self) -> None:
        """Stop, and close every connection."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(timeout=10)
            self._loop = self._thread = None

    async def _serve(self, listening: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority.issue_cert(*self._hosts).configure_cert(context)
        # Two servers, since a stream of Python 3.10 cannot upgrade to TLS.
        ending_tls = await asyncio.start_server(self._end_tls, "127.0.0.1", 0, ssl=context)
        self._tls_port: int = ending_tls.sockets[0].getsockname()[1]
        # The same port after a restart, so that the clients' environment stays valid.
        proxy = await asyncio.start_server(self._connect, "127.0.0.1", self._port)
        self._port = proxy.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        listening.set()
        await self._stop.wait()
        proxy.close()
        ending_tls.close()
        while self._open:
            for writer in self._open:
                writer.transport.abort()
            await asyncio.sleep(0.01)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._tracked(writer):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
                return
            method, _, rest = head.decode("latin-1").partition(" ")
            host = rest.partition(" ")[0].rpartition(":")[0]
            if method != "CONNECT" or not self._knows(host):
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            elif host in self.refused:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            elif host in self.silent:
                await reader.read()
            else:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _pipe(reader, writer, self._tls_port)

    async def _end_tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._tracked(writer):
            await _pipe(reader, writer, self._target_port)

    def _knows(self, host: str) -> bool:
        return host in self._hosts or f"*.{host.partition('.')[2]}" in self._hosts

    @contextlib.contextmanager
    def _tracked(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._open.add(writer)
        try:
            yield
        finally:
            self._open.discard(writer)
            writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Join a connection to a port of this machine until either end closes."""
    target_reader, target_writer = await asyncio.open_connection("127.0.0.1", port)
    directions = [
        asyncio.create_task(_copy(reader, target_writer)),
        asyncio.create_task(_copy(target_reader, writer)),
    ]
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for direction in directions:
            direction.cancel()
        target_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
