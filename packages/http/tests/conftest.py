"""An issuer, a protected server and another server on loopback, each real HTTP."""

import base64
import json
import secrets
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import pytest


class Server:
    """A server of one test.

    Attributes:
        seen: The requests so far: method, path, headers and body.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                owner.seen.append((self.command, self.path, headers, body))
                status, extra, content = owner.answer(self.command, self.path, headers, body)
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **extra}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_HEAD = handle_one  # noqa: N815 - names of http.server

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body."""
        return 200, {}, b"{}"

    def close(self) -> None:
        """Stop responding."""
        self._server.shutdown()
        self._server.server_close()


class Issuer(Server):
    """RFC 6749 4.4 with OpenID metadata.

    Attributes:
        lifetime: The lifetime of a token in seconds.
        valid: The valid tokens, with the monotonic time of their expiry.
        down: The status to respond with instead; 0 for none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.client = ("trainer", "s:3cr%t+")
        self.lifetime = 60.0
        self.valid: dict[str, float] = {}
        self.down = 0
        self.audience: str | None = None

    @property
    def issued(self) -> int:
        """Return the number of requests for tokens."""
        return sum(path == "/token" for _, path, _, _ in self.seen)

    def accepts(self, token: str) -> bool:
        """Return whether a token is valid."""
        return self.valid.get(token, 0.0) > time.monotonic()

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Respond as an issuer."""
        if self.down:
            return self.down, {}, b"away"
        if path == "/realm/.well-known/openid-configuration":
            content = {"issuer": f"{self.url}/realm", "token_endpoint": f"{self.url}/token"}
            return 200, {}, json.dumps(content).encode()
        if path != "/token":
            return 404, {}, b""
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        if self._client(headers, form) != self.client and not form.get("client_assertion"):
            error = {"error": "invalid_client", "error_description": "Client authentication failed"}
            return 401, {}, json.dumps(error).encode()
        if self.audience is not None and form.get("audience") != self.audience:
            return 400, {}, json.dumps({"error": "invalid_target"}).encode()
        token = secrets.token_urlsafe(12)
        self.valid[token] = time.monotonic() + self.lifetime
        content = {"access_token": token, "token_type": "Bearer", "expires_in": str(self.lifetime)}
        return 200, {}, json.dumps(content).encode()

    @staticmethod
    def _client(headers: dict[str, str], form: dict[str, str]) -> tuple[str, str]:
        if "client_secret" in form:
            return form["client_id"], form["client_secret"]
        encoded = headers.get("authorization", "").partition(" ")[2]
        name, _, secret = base64.b64decode(encoded).decode().partition(":")
        return unquote_plus(name), unquote_plus(secret)


class Protected(Server):
    """A server that requires a bearer token of an issuer.

    Attributes:
        refusal: The response without a token: `401`, `redirect` or `page`.
        page: The HTML of its login page.
    """

    def __init__(self, issuer: Issuer) -> None:
        super().__init__()
        self.issuer, self.refusal, self.elsewhere = issuer, "401", ""
        self.header = "authorization"

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer the request, or refuse it."""
        kind, _, token = headers.get(self.header, "").partition(" ")
        if kind == "Bearer" and self.issuer.accepts(token):
            if path == "/page":
                attachment = {"Content-Disposition": "attachment; filename=report.html"}
                return 200, {"Content-Type": "text/html", **attachment}, b"<html>mine</html>"
            return 200, {}, json.dumps({"received": len(body)}).encode()
        if self.refusal == "redirect":
            return 302, {"Location": f"{self.elsewhere}/login"}, b""
        if self.refusal == "page":
            return 200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><title>Sign in</title>"
        challenge = 'Bearer realm="mlflow", error="invalid_token"'
        return 401, {"WWW-Authenticate": challenge}, b"<html>401</html>"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """An issuer."""
    server = Issuer()
    yield server
    server.close()


@pytest.fixture
def protected(issuer: Issuer) -> Iterator[Protected]:
    """A server that requires the issuer's tokens."""
    server = Protected(issuer)
    yield server
    server.close()


@pytest.fixture
def foreign() -> Iterator[Server]:
    """A server that must never receive a secret."""
    server = Server()
    yield server
    server.close()
