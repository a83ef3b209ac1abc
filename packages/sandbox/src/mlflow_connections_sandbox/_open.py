"""An MLflow server without authentication: another origin, which must not see a client's credentials."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ._stand_in import StandIn

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class OpenMlflow(StandIn):
    """Forwards every request to the MLflow server, and records its headers.

    Attributes:
        headers: The headers of each received request, with names in lower case.
    """

    name: ClassVar[str] = "open"

    def __init__(self, mlflow_url: str, folder: Path) -> None:
        super().__init__(mlflow_url, folder)
        self.headers: list[dict[str, str]] = []

    def environment(self) -> dict[str, str]:
        """Return no variables: a client needs only the URL."""
        return {}

    def app(self) -> "ASGIApp":
        """Create the ASGI application."""
        return Starlette(routes=[Route("/{path:path}", self.forward, methods=_ANY)])

    def forward(self, request: Request) -> Response:
        """Record a request's headers and forward it."""
        self.headers.append(dict(request.headers))
        return self.mlflow.forward(request)
