"""Cutting a connection: the one thing that an ASGI application cannot ask its server for."""

import asyncio
from typing import TYPE_CHECKING

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

# By both ends of the connection: two stand-ins may see clients with the same port.
_transports: dict[tuple[object, object], asyncio.Transport] = {}


class CuttableProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with its transports within reach of `cut`."""

    def connection_made(  # type: ignore[override]  # uvicorn narrows the transport the same way
        self, transport: asyncio.Transport
    ) -> None:
        """Remember the transport."""
        super().connection_made(transport)
        _transports[self.server, self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the transport."""
        _transports.pop((self.server, self.client), None)
        super().connection_lost(exc)


async def cut(scope: "Scope", receive: "Receive") -> None:
    """Close the connection of a request after what was sent already, and wait until it is closed.

    Once uvicorn knows that the client is gone it adds nothing, where it would otherwise answer 500
    for an application that returned without an answer.
    """
    transport = _transports.get((scope["server"], scope["client"]))
    if transport is not None:
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass
