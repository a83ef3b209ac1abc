"""The real MLflow server behind a stand-in: requests are forwarded, responses streamed back."""

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import requests
from requests.structures import CaseInsensitiveDict

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_PIECE = 1 << 16
"""The number of bytes of a response that are sent on immediately."""
_HELD_SECONDS = 0.1
"""Seconds after which fewer bytes are sent on as well."""
_TIMEOUT = 120
"""In seconds. The server is on this machine, but its first response may need many imports."""

# RFC 9110, 7.6.1: these concern one connection. The others must not reach the MLflow server: it
# refuses a Host that is not its own, and credentials end at the stand-in.
_NOT_FORWARDED = frozenset(
    {
        *(
            "connection",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-connection",
        ),
        *("te", "trailer", "transfer-encoding", "upgrade"),
        *("authorization", "content-length", "expect", "host"),
    }
)
_NOT_RETURNED = _NOT_FORWARDED - {"content-length"} | {"date", "server"}


class MlflowBackend:
    """Calls the MLflow server directly, ignoring any proxy in the environment.

    Attributes:
        url: The URL of the server.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request of the stand-in itself; the response's body is read only on use.

        Args:
            method: The HTTP method.
            path: The path below the server's URL, with a leading slash.
            json: A body to send as JSON.
            params: The query; text is sent unchanged.
            data: A body to send unchanged: bytes, or an iterable of them.
            headers: More headers.
        """
        session = requests.Session()
        session.trust_env = False
        # Connections are not reused: a server that closes an idle one at that moment would fail the
        # request.
        session.headers = CaseInsensitiveDict({"Connection": "close"})
        return session.request(
            method,
            self.url + path,
            json=json,
            params=params,
            data=data,
            headers=dict(headers or {}),
            stream=True,
            allow_redirects=False,
            timeout=_TIMEOUT,
        )

    def forward(self, request: "Request", path: str | None = None) -> "Response":
        """Forward a request unchanged, and stream the response. For endpoints that are not async.

        Args:
            request: The request; its body must not have been read.
            path: Another path; None keeps that of the request.
        """
        from starlette.background import BackgroundTask
        from starlette.responses import JSONResponse, StreamingResponse

        length = request.headers.get("content-length")
        has_body = (length or "0") != "0" or "transfer-encoding" in request.headers
        query = request.url.query
        try:
            answer = self.call(
                request.method,
                (request.url.path if path is None else path) + (f"?{query}" if query else ""),
                data=_Body(request, length) if has_body else None,
                headers={k: v for k, v in request.headers.items() if k not in _NOT_FORWARDED},
            )
        except requests.RequestException as error:
            return JSONResponse({"message": f"The MLflow server: {type(error).__name__}"}, 502)
        return StreamingResponse(
            _gathered(answer.raw.stream(_PIECE, decode_content=False)),
            status_code=answer.status_code,
            headers={k: v for k, v in answer.headers.items() if k.lower() not in _NOT_RETURNED},
            background=BackgroundTask(answer.close),
        )


def _gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Join small chunks: MLflow 2 sends an artifact line by line, and each chunk costs a thread switch.

    Chunk by chunk, 30 MB took so long on a busy machine that gunicorn killed the worker that sent
    them.
    """
    held: list[bytes] = []
    size, since = 0, time.monotonic()
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= _PIECE or time.monotonic() - since > _HELD_SECONDS:
            yield b"".join(held)
            held, size, since = [], 0, time.monotonic()
    if held:
        yield b"".join(held)


class _Body:
    """A request's body in the form that `requests` accepts: sent while it arrives, with its length if known."""

    def __init__(self, request: "Request", length: str | None) -> None:
        self._chunks: AsyncIterator[bytes] = request.stream()
        # requests reads it from the instance: without a length the body is sent in chunks.
        if length is not None:
            self.len = int(length)

    def __iter__(self) -> Iterator[bytes]:
        from anyio import from_thread

        async def chunk() -> bytes | None:
            return await anext(self._chunks, None)

        while (received := from_thread.run(chunk)) is not None:
            if received:
                yield received
