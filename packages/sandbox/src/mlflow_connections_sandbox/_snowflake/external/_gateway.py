"""The gateways in front of MLflow, one for each cloud, with public names, listening on loopback."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mlflow_connections_sandbox._stand_in import StandIn

from ._clouds import Clouds, Refused

if TYPE_CHECKING:
    from starlette.types import ASGIApp


MAX_REQUEST_BYTES = 10 * 1024 * 1024
"""The limit of Amazon API Gateway, the lowest of the three."""

BASES: Mapping[str, str] = {
    "aws": "https://sandbox.execute-api.eu-central-1.amazonaws.com/prod",
    "azure": "https://sandbox.azure-api.net/mlflow",
    "google": "https://sandbox-0000.ew.gateway.dev",
}
"""The public URL of each gateway.

These names are never looked up: the stand-in of Snowflake sends only URLs that begin with one of
them to the gateway on loopback.
"""

OWN_REFUSAL = "x-sandbox-gateway"
"""The header that marks a gateway's own refusal; it contains the reason, for readers of a journal."""
_UNKNOWN_CALLERS: Mapping[str, tuple[int, Mapping[str, object]]] = {
    "aws": (403, {"message": "The security token included in the request is invalid."}),
    "azure": (401, {"statusCode": 401, "message": "Invalid JWT."}),
    "google": (401, {"message": "Jwt verification fails", "code": 401}),
}
"""The response of each cloud's gateway to an unknown caller."""

# Headers that a gateway does not forward: the caller's identity, and those of one connection.
_DROPPED = frozenset(
    (
        "authorization",
        "x-api-key",
        "ocp-apim-subscription-key",
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "accept-encoding",
        "expect",
    )
)


class ApiGateway(StandIn):
    """Checks the caller, adds MLflow's credentials, and forwards the request.

    Attributes:
        provider: aws, azure or google.
        base: The public URL that external functions name, without a trailing slash.
        credentials: Headers to inject into each request to MLflow.
        remaps_authorization: Whether an injected `Authorization` reaches MLflow only under another
            name, `x-amzn-Remapped-Authorization`: Amazon documents that it may, so its gateway
            does.
        expired: Whether the gateway no longer knows its callers, as after a change of its policy.
        api_key: The API key that callers must send, or None.
        operations: The allowed methods and paths below the base, or None to allow every POST to
            MLflow's REST API.
    """

    name: ClassVar[str] = "gateway"

    def __init__(self, mlflow_url: str, folder: Path, provider: str, clouds: Clouds) -> None:
        super().__init__(mlflow_url, folder)
        self.provider = provider
        self.base = BASES[provider]
        self.credentials: dict[str, str] = {}
        self.remaps_authorization = provider == "aws"
        self.expired = False
        self.api_key: str | None = None
        self.operations: set[tuple[str, str]] | None = None
        self._clouds = clouds
        self._finished: dict[str, Response] = {}
        self.polls = 0

    def environment(self) -> Mapping[str, str]:
        """Return no variables: only Snowflake talks to a gateway."""
        return {}

    def app(self) -> "ASGIApp":
        """Return the application."""
        return Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])

    def define(self, document: Mapping[str, object]) -> None:
        """Allow only the operations that an OpenAPI document lists.

        Args:
            document: The parsed OpenAPI document.
        """
        paths = document["paths"]
        if not isinstance(paths, Mapping):
            raise TypeError("An OpenAPI document's paths are a mapping.")
        base = str(document.get("basePath", "")).rstrip("/")
        self.operations = {
            (method.upper(), base + path)
            for path, methods in paths.items()
            for method in methods
            if method in {"get", "post"}
        }

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        refusal = self._refuse(request, body)
        if refusal is not None:
            return refusal
        if self.polls:
            return await self._later(request, body)
        return await run_in_threadpool(self._forward, request, body)

    def _refuse(self, request: Request, body: bytes) -> Response | None:
        path = request.url.path
        query = f"?{request.url.query}" if request.url.query else ""
        url = f"{self.base}{path}{query}"
        if self.expired:
            return self._own(*_UNKNOWN_CALLERS[self.provider], detail="expired")
        try:
            proof = request.headers.get("authorization", "")
            self._clouds.check(self.provider, proof, request.method, url, body)
        except Refused as error:
            return self._own(*_UNKNOWN_CALLERS[self.provider], detail=str(error))
        if self.api_key is not None and request.headers.get("x-api-key") != self.api_key:
            return self._own(403, {"message": "Forbidden"})
        if len(body) > MAX_REQUEST_BYTES:
            return self._own(413, {"message": "Request Too Long"})
        if not self._is_operation(request.method, path):
            return self._own(403, {"message": "Missing Authentication Token"})
        return None

    @staticmethod
    def _own(status: int, content: Mapping[str, object], detail: str = "") -> Response:
        """Return the gateway's own refusal, whose text in Snowflake differs from that of MLflow's."""
        headers = {OWN_REFUSAL: detail or "refused"}
        return JSONResponse(dict(content), status, headers)

    def _is_operation(self, method: str, path: str) -> bool:
        if method == "GET" and self.polls:
            method = "POST"
        if self.operations is not None:
            return (method, path) in self.operations
        return method == "POST" and path.startswith("/api/")

    def _forward(self, request: Request, body: bytes) -> Response:
        kept = {k: v for k, v in request.headers.items() if k not in _DROPPED}
        query = f"?{request.url.query}" if request.url.query else ""
        headers = {**kept, **{self._injected(k): v for k, v in self.credentials.items()}}
        answer = self.mlflow.call("POST", request.url.path + query, data=body, headers=headers)
        with answer:
            return Response(
                answer.content,
                answer.status_code,
                media_type=answer.headers.get("content-type", "text/plain"),
            )

    def _injected(self, header: str) -> str:
        if self.remaps_authorization and header.lower() == "authorization":
            return "x-amzn-Remapped-Authorization"
        return header

    async def _later(self, request: Request, body: bytes) -> Response:
        """Respond with 202, and send the reply to the last poll."""
        batch = request.headers.get("sf-external-function-query-batch-id", "")
        if request.method == "POST":
            if batch not in self._finished:
                self._finished[batch] = await run_in_threadpool(self._forward, request, body)
            return Response(json.dumps({"status": "accepted"}), 202)
        self.polls -= 1
        if self.polls > 0:
            return Response(status_code=202)
        return self._finished.pop(batch, Response(status_code=404))
