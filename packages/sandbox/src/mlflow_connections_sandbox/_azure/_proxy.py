"""An HTTP proxy that accepts CONNECT and terminates TLS for Azure's hosts.

Azure's clients talk to https://management.azure.com and other fixed hosts, but they do read
HTTPS_PROXY and REQUESTS_CA_BUNDLE. Other hosts are refused, so that nothing leaves the machine,
unless the proxy is configured to pass them on, with their TLS untouched.
"""

import asyncio
import base64
import contextlib
import os
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import certifi
import trustme
from requests.utils import get_environ_proxies

from mlflow_connections_sandbox._mlflow_server import taken

_PORTS = {"http": 80, "https": 443}


class Proxy:
    """Forwards requests for known hosts, in plain HTTP, to one port of this machine.

    Attributes:
        url: For HTTPS_PROXY, once started.
        port: Its port, once started.
        passes_others: Whether it passes on requests for other hosts, through the proxy that this
            process's own environment names for them.
        refused: Hosts that the proxy reports as unreachable.
        silent: Hosts that never respond, so that the connection hangs.
    """

    def __init__(
        self,
        hosts: tuple[str, ...],
        target_port: int,
        folder: Path,
        port: int = 0,
        authority: trustme.CA | None = None,
    ) -> None:
        """Prepare a proxy.

        Args:
            hosts: The hosts that it serves; a leading `*.` matches one label.
            target_port: The port that receives the plain requests.
            folder: The folder for the certificates of the authority that signed the hosts'
                certificate.
            port: Its port; 0 for any free one.
            authority: The authority that signs the hosts' certificate; by default a new one.
        """
        self.url = ""
        self.port = port
        self.passes_others = False
        self.refused: set[str] = set()
        self.silent: set[str] = set()
        self._hosts = hosts
        self._target_port = target_port
        self._folder = folder
        self._authority = authority or trustme.CA()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event
        self._thread: threading.Thread | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._failed = False

    @property
    def bundle(self) -> Path:
        """The file for REQUESTS_CA_BUNDLE."""
        return self._folder / "ca.pem"

    def start(self) -> None:
        """Listen in a thread of this process.

        Raises:
            RuntimeError: Another program has the port.
        """
        self._write_bundle()
        self._failed = False
        listening = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening)), name="azure proxy", daemon=True
        )
        self._thread.start()
        listening.wait()
        if self._failed:
            self._thread.join()
            self._loop = self._thread = None
            raise taken("Azure proxy", self.port)

    def _write_bundle(self) -> None:
        """Trust the sandbox's authority and this process's own: other hosts have real certificates."""
        named = Path(os.environ.get("REQUESTS_CA_BUNDLE", ""))
        others = named if named.is_file() and named != self.bundle else Path(certifi.where())
        text = others.read_bytes().rstrip() + b"\n" + self._authority.cert_pem.bytes()
        self.bundle.write_bytes(text)

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
        # Reuse the port after a restart, so that the clients' environment stays valid.
        try:
            proxy = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
        except OSError:
            self._failed = True
            listening.set()
            return
        # Two servers are needed: a stream of Python 3.10 cannot upgrade to TLS.
        ending_tls = await asyncio.start_server(self._end_tls, "127.0.0.1", 0, ssl=context)
        self._tls_port: int = ending_tls.sockets[0].getsockname()[1]
        self.port = proxy.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
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
            host, _, port = rest.partition(" ")[0].rpartition(":")
            if method == "CONNECT" and self.passes_others and not self._knows(host):
                await self._pass_on(host.strip("[]"), port, reader, writer)
            elif method != "CONNECT" or not self._knows(host):
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            elif host in self.refused:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            elif host in self.silent:
                await reader.read()
            else:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _pipe(reader, writer, *await _local(self._tls_port))

    async def _pass_on(
        self, host: str, port: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Connect a client to a host that is not Azure's."""
        upstream = get_environ_proxies(f"https://{host}").get("https", "")
        if upstream.rstrip("/") == self.url:
            upstream = ""
        try:
            if upstream:
                target = await _ask(upstream, f"{host}:{port}")
            else:
                target = await asyncio.open_connection(host, int(port))
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        except (OSError, ValueError):
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        await _pipe(reader, writer, *target)

    async def _end_tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._tracked(writer):
            await _pipe(reader, writer, *await _local(self._target_port))

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


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _local(port: int) -> Ends:
    """Connect to a port of this machine."""
    return await asyncio.open_connection("127.0.0.1", port)


async def _ask(upstream: str, target: str) -> Ends:
    """Request a target from another proxy; its response goes to the client."""
    parts = urlsplit(upstream if "://" in upstream else f"http://{upstream}")
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or _PORTS.get(parts.scheme, 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=tls)
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        head += f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
    writer.write(f"{head}\r\n".encode())
    return reader, writer


async def _pipe(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    target_reader: asyncio.StreamReader,
    target_writer: asyncio.StreamWriter,
) -> None:
    """Copy data between two connections until either end closes."""
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
