"""A protected MLflow server, and another one that must never see a credential."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mlflow_connections_sandbox import MlflowServer, StandIn
from mlflow_connections_sandbox._http import ProtectedMlflow

if TYPE_CHECKING:
    from starlette.types import ASGIApp


class OpenMlflow(StandIn):
    """An MLflow server on another origin that lets everybody in.

    Attributes:
        headers: The headers of each request that it has seen.
    """

    name: ClassVar[str] = "open"

    def __init__(self, mlflow_url: str, folder: Path) -> None:
        super().__init__(mlflow_url, folder)
        self.headers: list[dict[str, str]] = []

    def environment(self) -> dict[str, str]:
        """Return nothing: it needs nothing."""
        return {}

    def app(self) -> "ASGIApp":
        """Make the application."""

        def forward(request: Request) -> Response:
            self.headers.append(dict(request.headers))
            return self.mlflow.forward(request)

        methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
        return Starlette(routes=[Route("/{path:path}", forward, methods=methods)])


@pytest.fixture
def protected(mlflow_server: MlflowServer, tmp_path: Path) -> Iterator[ProtectedMlflow]:
    """The stand-in before the session's MLflow server."""
    stand_in = ProtectedMlflow(mlflow_server.url, tmp_path / "protected")
    stand_in.start()
    yield stand_in
    stand_in.close()


@pytest.fixture
def foreign(mlflow_server: MlflowServer, tmp_path: Path) -> Iterator[OpenMlflow]:
    """A server on another origin, before the same MLflow server."""
    stand_in = OpenMlflow(mlflow_server.url, tmp_path / "foreign")
    stand_in.start()
    yield stand_in
    stand_in.close()
