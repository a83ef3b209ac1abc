"""A stand-in for an MLflow server behind an identity provider, such as Keycloak with oauth2-proxy.

It issues opaque tokens for a client (RFC 6749 4.4) and looks each one up as token introspection
does (RFC 7662), so expiry and revocation take effect immediately. People without a token are sent
to a login page on another origin, as proxies do; that page returns 200, which MLflow's client
treats as success.

A second address requires a client certificate instead of a token (mTLS), and refuses the handshake
without one.
"""

import base64
import binascii
import secrets
import shlex
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from urllib.parse import parse_qsl, unquote_plus

import trustme
from cryptography.hazmat.primitives import serialization
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from ._loopback import LoopbackServer, TlsFiles
from ._recorder import RequestRecorder
from ._stand_in import StandIn, exports

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
_REALM = "/realms/mlflow"
_FORM = "application/x-www-form-urlencoded"
_LOGIN = "<!DOCTYPE html><title>Sign in</title><h1>Sign in to continue</h1>"


class HttpClient(NamedTuple):
    """The client that the issuer knows.

    Attributes:
        client_id: Its ID.
        client_secret: Its secret, with characters that must be encoded.
        audience: The audience that it must request.
        scope: The only scope that it may request.
    """

    client_id: str
    client_secret: str
    audience: str = "mlflow"
    scope: str = "tracking"


class ClientCertificate(NamedTuple):
    """The PEM files of the client that the second address accepts.

    Attributes:
        certificate: Its certificate.
        key: Its key, encrypted.
        password: Decrypts the key.
        ca_file: The authority of the server's certificate.
    """

    certificate: Path
    key: Path
    password: str
    ca_file: Path


class ProtectedMlflow(StandIn):
    """An issuer and the MLflow server that requires its tokens, at one address, and client certificates at another.

    Attributes:
        client: The client that the issuer knows.
        lifetime: The lifetime of a token in seconds.
        secret_headers: Headers that each request must carry in addition to the token; none at
            first.
        header: The only header, in lower case, that may carry the token.
        account: A user and a password that are required instead of a token; None at first.
        issued: The number of tokens issued.
        certificate: The client certificate that `mtls_url` requires, once started.
        mtls_url: The second address.
    """

    name: ClassVar[str] = "http"
    title: ClassVar[str] = "MLflow behind OpenID"
    guide: ClassVar[str] = "http"
    prefixes = ("MLFLOW_CONNECTIONS_HTTP_",)

    def __init__(self, mlflow_url: str, folder: Path) -> None:
        super().__init__(mlflow_url, folder)
        secret = self.kept.get("client_secret", lambda: f"s+%:{secrets.token_hex(8)}")
        self.client = HttpClient("trainer", secret)
        self.lifetime = 300.0
        self.secret_headers: dict[str, str] = {}
        self.header = "authorization"
        self.account: tuple[str, str] | None = None
        self.issued = 0
        tls = folder / "tls"
        password = self.kept.get("key_password", lambda: f"k+%:{secrets.token_hex(8)}")
        self.certificate = ClientCertificate(
            tls / "client.crt", tls / "client.key", password, tls / "ca.pem"
        )
        self._clients = tls / "clients.pem"
        self._tls = TlsFiles(tls / "server.crt", tls / "server.key", self._clients)
        self._mtls = LoopbackServer(
            "stand-in 'http' with client certificates", self._tls, self.kept.port("mtls_port")
        )
        self.mtls_url = self._mtls.url
        self._has_certificates = False
        self._tokens: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def issuer(self) -> str:
        """Return the issuer's URL."""
        return self.url + _REALM

    def environment(self) -> Mapping[str, str]:
        """Return the variables that the connection `http` reads."""
        return {
            "MLFLOW_CONNECTIONS_HTTP_URL": self.url,
            "MLFLOW_CONNECTIONS_HTTP_ISSUER": self.issuer,
            "MLFLOW_CONNECTIONS_HTTP_AUDIENCE": self.client.audience,
            "MLFLOW_CONNECTIONS_HTTP_CLIENT_ID": self.client.client_id,
            "MLFLOW_CONNECTIONS_HTTP_CLIENT_SECRET": self.client.client_secret,
        }

    def mtls_environment(self) -> Mapping[str, str]:
        """Return the variables of the connection `http` for the address that requires a client certificate."""
        return {
            "MLFLOW_CONNECTIONS_HTTP_URL": self.mtls_url,
            "MLFLOW_CONNECTIONS_HTTP_CA_FILE": str(self.certificate.ca_file),
            "MLFLOW_CONNECTIONS_HTTP_CLIENT_CERTIFICATE": str(self.certificate.certificate),
            "MLFLOW_CONNECTIONS_HTTP_CLIENT_KEY": str(self.certificate.key),
            "MLFLOW_CONNECTIONS_HTTP_CLIENT_KEY_PASSWORD": self.certificate.password,
        }

    def notes(self) -> Sequence[str]:
        """Return how to use the address that requires a client certificate."""
        return [
            f"With a client certificate instead, at {self.mtls_url}: . {shlex.quote(str(self._script))}"
        ]

    @property
    def _script(self) -> Path:
        return self.folder / "client-certificate.sh"

    def start(self) -> None:
        """Start serving both addresses.

        Raises:
            RuntimeError: A server did not start.
        """
        self.kept.put("mtls_port", self._mtls.port)
        super().start()
        if not self._has_certificates:
            self._write_certificates()
            self._has_certificates = True
        app = Starlette(routes=[Route("/{path:path}", self._forward_certified, methods=_ANY)])
        self._mtls.start(RequestRecorder(app, self.journal, self.faults))

    def close(self) -> None:
        """Stop serving."""
        super().close()
        self._mtls.close()

    def _write_certificates(self) -> None:
        """Write the certificates of the server and of the client, each with its own authority."""
        self._tls.certificate.parent.mkdir(exist_ok=True)
        authority, clients = trustme.CA(), trustme.CA()
        authority.cert_pem.write_to_path(self.certificate.ca_file)
        clients.cert_pem.write_to_path(self._clients)
        server = authority.issue_cert("127.0.0.1")
        server.cert_chain_pems[0].write_to_path(self._tls.certificate)
        server.private_key_pem.write_to_path(self._tls.key)
        client = clients.issue_cert("trainer@example.com")
        client.cert_chain_pems[0].write_to_path(self.certificate.certificate)
        key = serialization.load_pem_private_key(client.private_key_pem.bytes(), None)
        self.certificate.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(self.certificate.password.encode()),
            )
        )
        unset = [f"unset {name}" for name in self.environment().keys() - self.mtls_environment()]
        self._script.write_text("\n".join([*sorted(unset), *exports(self.mtls_environment()), ""]))

    def revoke(self) -> None:
        """Expire every token now."""
        with self._lock:
            self._tokens.clear()

    def app(self) -> "ASGIApp":
        """Create the application."""
        return Starlette(
            routes=[
                Route(f"{_REALM}/.well-known/openid-configuration", self._metadata),
                Route(f"{_REALM}/token", self._token, methods=["POST"]),
                Route("/login", lambda _: HTMLResponse(_LOGIN)),
                Route("/{path:path}", self._forward, methods=_ANY),
            ]
        )

    async def _metadata(self, request: Request) -> Response:  # noqa: ARG002 - it depends on nothing
        return JSONResponse(
            {
                "issuer": self.issuer,
                "token_endpoint": f"{self.issuer}/token",
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported": [
                    "client_secret_basic",
                    "client_secret_post",
                ],
            }
        )

    async def _token(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0] != _FORM:
            return _refused(
                400, "invalid_request", "only application/x-www-form-urlencoded is supported"
            )
        pairs = parse_qsl((await request.body()).decode(errors="replace"), keep_blank_values=True)
        form = dict(pairs)
        if len(pairs) != len(form):
            return _refused(400, "invalid_request", "a parameter is given twice")
        client = _client(request, form)
        if client is None:
            return _refused(
                400, "invalid_request", "exactly one way of client authentication is allowed"
            )
        if not _same(client, (self.client.client_id, self.client.client_secret)):
            return _refused(401, "invalid_client", "client authentication failed")
        if form.get("grant_type") != "client_credentials":
            return _refused(400, "unsupported_grant_type", "unsupported grant_type requested")
        if form.get("scope", self.client.scope) != self.client.scope:
            return _refused(400, "invalid_scope", "requested scope is not allowed")
        if form.get("audience") != self.client.audience:
            return _refused(400, "invalid_target", "requested audience is not known")
        token = secrets.token_urlsafe(32)
        with self._lock:
            self.issued += 1
            self._tokens[token] = time.monotonic() + self.lifetime
        return JSONResponse(
            {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime},
            headers={"Cache-Control": "no-store"},
        )

    def _forward_certified(self, request: Request) -> Response:
        return self.mlflow.forward(request) if self._has_headers(request) else self._login()

    def _has_headers(self, request: Request) -> bool:
        return all(
            secrets.compare_digest(request.headers.get(name, "").encode(), value.encode())
            for name, value in self.secret_headers.items()
        )

    def _forward(self, request: Request) -> Response:
        if not self._has_headers(request):
            return self._login()
        kind, _, token = request.headers.get(self.header, "").partition(" ")
        if not token:
            return self._login()
        if self.account is not None:
            return self._forward_account(request, kind, token)
        with self._lock:
            valid = kind == "Bearer" and self._tokens.get(token, 0.0) > time.monotonic()
        if not valid:
            challenge = 'Bearer realm="mlflow", error="invalid_token", error_description="inactive"'
            return HTMLResponse("<h1>401</h1>", 401, headers={"WWW-Authenticate": challenge})
        return self.mlflow.forward(request)

    def _forward_account(self, request: Request, kind: str, encoded: str) -> Response:
        wanted = base64.b64encode(":".join(self.account or ()).encode())
        if kind == "Basic" and secrets.compare_digest(encoded.encode(), wanted):
            return self.mlflow.forward(request)
        return HTMLResponse(
            "<h1>401</h1>", 401, headers={"WWW-Authenticate": 'Basic realm="mlflow"'}
        )

    def _login(self) -> Response:
        """Send people to a login page on the same machine under another name, so another origin."""
        return RedirectResponse(f"http://localhost:{self.port}/login", 302)


def _client(request: Request, form: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the client's ID and secret; None if they are not given in exactly one way."""
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    in_form = "client_secret" in form
    if bool(encoded) == in_form or (encoded and kind.lower() != "basic"):
        return None
    if in_form:
        return form.get("client_id", ""), form["client_secret"]
    try:
        name, _, secret = base64.b64decode(encoded, validate=True).decode("ascii").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    # RFC 6749 2.3.1: both are form-encoded before they are joined.
    return unquote_plus(name), unquote_plus(secret)


def _same(given: tuple[str, str], known: tuple[str, str]) -> bool:
    return all(
        secrets.compare_digest(a.encode(), b.encode()) for a, b in zip(given, known, strict=True)
    )


def _refused(status: int, error: str, description: str) -> JSONResponse:
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="mlflow"'
    return JSONResponse({"error": error, "error_description": description}, status, headers)
