"""MLflow on the public internet: HTTPS at a public name, for clients that send its token.

An authority that belongs only to this stand-in signs its certificate. Processes inside the account
trust that authority and know the address of the name; no process outside of them does either.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import certifi
import trustme
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mlflow_connections_sandbox._loopback import LoopbackServer, TlsFiles
from mlflow_connections_sandbox._stand_in import StandIn

if TYPE_CHECKING:
    from starlette.types import ASGIApp

MLFLOW_HOST = "mlflow.sandbox.example"
"""The public name of MLflow; RFC 2606 reserves `.example`, so it belongs to nobody else."""
MLFLOW_PORT = 443
MLFLOW_URL = f"https://{MLFLOW_HOST}"
_ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class PublicMlflow(StandIn):
    """Checks the token of each request, and forwards it to the MLflow server.

    Attributes:
        token: The bearer token that MLflow accepts.
        bundle: The certificates that processes inside the account trust, in PEM.
    """

    name: ClassVar[str] = "mlflow"

    def __init__(self, mlflow_url: str, folder: Path) -> None:
        super().__init__(mlflow_url, folder)
        self._server.close()
        self._tls = TlsFiles(folder / "server.crt", folder / "server.key")
        self._server = LoopbackServer("public MLflow", self._tls)
        self.port, self.url = self._server.port, self._server.url
        self.token = secrets.token_urlsafe(24)
        self.bundle = folder / "trusted.pem"
        self._authority = trustme.CA(organization_name="mlflow-connections sandbox")

    def environment(self) -> Mapping[str, str]:
        """Return no variables: only processes inside the account reach it."""
        return {}

    def start(self) -> None:
        """Write the certificate of the public name and the bundle that trusts it, and start serving."""
        self.folder.mkdir(parents=True, exist_ok=True)
        issued = self._authority.issue_cert(MLFLOW_HOST)
        issued.cert_chain_pems[0].write_to_path(self._tls.certificate)
        issued.private_key_pem.write_to_path(self._tls.key)
        public = Path(certifi.where()).read_bytes()
        self.bundle.write_bytes(public + b"\n" + self._authority.cert_pem.bytes())
        super().start()

    def app(self) -> "ASGIApp":
        """Return the application."""
        return Starlette(routes=[Route("/{path:path}", self._forward, methods=_ANY)])

    def _forward(self, request: Request) -> Response:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not secrets.compare_digest(token.encode(), self.token.encode()):
            message = "The token is missing, or MLflow does not know it."
            return JSONResponse(
                {"error_code": "UNAUTHENTICATED", "message": message},
                401,
                {"WWW-Authenticate": 'Bearer realm="mlflow"'},
            )
        return self.mlflow.forward(request)
