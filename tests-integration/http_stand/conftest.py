"""The stand: a certified OpenID provider, and Apache with its own modules in front of a real MLflow server."""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import requests
import trustme
from cryptography import x509

from mlflow_connections_sandbox import MlflowServer, OpenMlflow
from mlflow_connections_sandbox._mlflow_server import free_port

if TYPE_CHECKING:
    from typing_extensions import Self

HERE = Path(__file__).parent
STARTS_WITHIN = 60.0  # seconds, on a small busy machine
INTROSPECTOR = "apache"
JWT, OPAQUE = "https://mlflow.test/signed", "https://mlflow.test/opaque"


class Stand:
    """Runs below a folder until it is closed.

    Attributes:
        issuer: The URL of the OpenID provider.
        jwt_url: MLflow behind signed tokens, which mod_oauth2 verifies.
        opaque_url: MLflow behind opaque tokens, which mod_auth_openidc looks up.
        login_url: MLflow behind a login page.
        mtls_url: MLflow behind client certificates.
        redirect_url: A server that redirects everything to `foreign_url`.
        ca_file: The certificate with which clients verify all of them.
        secret: The secret of the client `trainer`, with characters that must be encoded.
        authority: Issues client certificates that are accepted.
    """

    def __init__(self, installed: Path, folder: Path, mlflow_url: str, foreign_url: str) -> None:
        self.installed, self.folder = installed, folder
        self.mlflow_url, self.foreign_url = mlflow_url, foreign_url
        self.ports = {
            name: free_port() for name in ("ISSUER", "JWT", "OPAQUE", "LOGIN", "MTLS", "REDIRECT")
        }
        self.issuer = self._url("ISSUER")
        self.jwt_url, self.opaque_url = self._url("JWT"), self._url("OPAQUE")
        self.login_url, self.mtls_url = self._url("LOGIN"), self._url("MTLS")
        self.redirect_url = self._url("REDIRECT")
        self.ca_file = folder / "ca.pem"
        self.secret = f"s+%:{secrets.token_hex(8)}"
        self.authority = trustme.CA(organization_name="clients")
        self.key = trustme.CA(organization_name="workload").issue_cert("workload")
        self._running = ExitStack()
        self._introspector_secret = secrets.token_hex(16)

    def _url(self, name: str) -> str:
        return f"https://127.0.0.1:{self.ports[name]}"

    def ask(self, method: str, path: str) -> str:
        """Call one of the stand's own paths at the issuer."""
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method, f"{self.issuer}/stand/{path}", verify=str(self.ca_file), timeout=30
            ).text

    @property
    def issued(self) -> int:
        """Return the number of access tokens issued."""
        return int(self.ask("GET", "issued"))

    def revoke(self) -> None:
        """Revoke all tokens."""
        self.ask("POST", "revoke")

    def statuses(self, host: str) -> list[int]:
        """Return the status of each request so far at a virtual host, such as `OPAQUE`.

        The one request without credentials that checks the TLS handshake is omitted.
        """
        lines = [line.split() for line in (self.folder / "access.log").read_text().splitlines()]
        port = str(self.ports[host])
        return [int(line[1]) for line in lines if line[0] == port and line[2:] != ["HEAD", "/"]]

    def start_issuer(self, lifetime: int = 8) -> None:
        """Start the OpenID provider.

        Args:
            lifetime: The lifetime of an access token in seconds.
        """
        config = {
            "provider": str(self.installed / "node_modules/oidc-provider/lib/index.js"),
            "issuer": self.issuer,
            "port": self.ports["ISSUER"],
            "certificate": str(self.folder / "server.pem"),
            "key": str(self.folder / "server.key"),
            "introspector": INTROSPECTOR,
            "lifetime": lifetime,
            "resources": {JWT: "jwt", OPAQUE: "opaque"},
            "clients": [*self._clients()],
        }
        path = self.folder / "issuer.json"
        path.write_text(json.dumps(config))
        with (self.folder / "issuer.log").open("ab") as log:
            process = subprocess.Popen(
                ["node", str(HERE / "issuer.mjs"), str(path)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        self._running.callback(end, process)
        self._issuer, self._lifetime = process, lifetime
        self._wait(f"{self.issuer}/.well-known/openid-configuration", process, "issuer.log")

    def stop_issuer(self) -> None:
        """Stop the OpenID provider. After a restart its keys are the same and its tokens are gone."""
        end(self._issuer)

    def wait_for_expiry(self) -> None:
        """Wait until a token that was issued before has expired."""
        time.sleep(self._lifetime + 0.5)

    def _clients(self) -> list[dict[str, Any]]:
        machine = {
            "grant_types": ["client_credentials"],
            "redirect_uris": [],
            "response_types": [],
        }
        return [
            {**machine, "client_id": "trainer", "client_secret": self.secret},
            {
                **machine,
                "client_id": "poster",
                "client_secret": self.secret,
                "token_endpoint_auth_method": "client_secret_post",
            },
            {
                **machine,
                "client_id": "workload",
                "token_endpoint_auth_method": "private_key_jwt",
                "token_endpoint_auth_signing_alg": "ES256",
                "jwks": {"keys": [public_jwk(self.key)]},
            },
            {
                "client_id": INTROSPECTOR,
                "client_secret": self._introspector_secret,
                "redirect_uris": [f"{self.login_url}/signed-in"],
            },
        ]

    def start_apache(self) -> None:
        """Start Apache, in the foreground and without workers of other users."""
        root = self.installed / "root"
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(map(str, (root / "usr" / "lib").glob("*-linux-gnu"))),
            "FOLDER": str(self.folder),
            "MODULES": str(root / "usr" / "lib" / "apache2" / "modules"),
            "CERTIFICATE": str(self.folder / "server.pem"),
            "KEY": str(self.folder / "server.key"),
            "CA_FILE": str(self.ca_file),
            "CLIENT_CA_FILE": str(self.folder / "clients.pem"),
            "ISSUER": self.issuer,
            "INTROSPECTOR": INTROSPECTOR,
            "INTROSPECTOR_SECRET": self._introspector_secret,
            "JWT_RESOURCE": JWT,
            "OPAQUE_RESOURCE": OPAQUE,
            "MLFLOW_URL": self.mlflow_url,
            "FOREIGN_URL": self.foreign_url,
            **{f"{name}_PORT": str(port) for name, port in self.ports.items()},
        }
        apache = root / "usr" / "sbin" / "apache2"
        with (self.folder / "apache.out").open("ab") as log:
            process = subprocess.Popen(
                [str(apache), "-f", str(HERE / "apache.conf"), "-DFOREGROUND"],
                env=environment,
                stdout=log,
                stderr=log,
            )
        self._running.callback(end, process)
        self._wait(f"{self.jwt_url}/health", process, "apache.out")

    def assertion(self, path: Path) -> Path:
        """Write a JWT that authenticates the client `workload`, as a cluster does, and return its path."""
        now = int(time.time())
        claims = {"iss": "workload", "sub": "workload", "aud": self.issuer, "iat": now}
        claims |= {"exp": now + 60, "jti": secrets.token_hex(8)}
        path.write_text(jwt.encode(claims, self.key.private_key_pem.bytes(), "ES256"))
        return path

    def _wait(self, url: str, process: "subprocess.Popen[bytes]", log: str) -> None:
        limit = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < limit and process.poll() is None:
            if self._answers(url):
                return
            time.sleep(0.1)
        text = (self.folder / log).read_text()[-2000:]
        raise RuntimeError(f"{url} did not answer. The log {log} ends with:\n{text}")

    def _answers(self, url: str) -> bool:
        try:
            with requests.Session() as session:
                session.trust_env = False
                session.get(url, verify=str(self.ca_file), timeout=10)
        except requests.RequestException:
            return False
        return True

    def __enter__(self) -> "Self":
        self.folder.mkdir(parents=True)
        authority = trustme.CA(organization_name="stand")
        authority.cert_pem.write_to_path(self.ca_file)
        self.authority.cert_pem.write_to_path(self.folder / "clients.pem")
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        certificate.cert_chain_pems[0].write_to_path(self.folder / "server.pem")
        certificate.private_key_pem.write_to_path(self.folder / "server.key")
        with ExitStack() as starting:
            starting.push(self._running)
            self.start_issuer()
            self.start_apache()
            starting.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running.close()


def end(process: "subprocess.Popen[bytes]") -> None:
    """Stop a process and wait for its end."""
    process.terminate()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def public_jwk(certificate: trustme.LeafCert) -> dict[str, Any]:
    """Return the public key of a certificate as a JSON Web Key."""
    public: Any = x509.load_pem_x509_certificate(
        certificate.cert_chain_pems[0].bytes()
    ).public_key()
    return {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(public)), "use": "sig"}


@pytest.fixture(scope="session")
def foreign_server(mlflow_server: MlflowServer, sandbox_folder: Path) -> Iterator[OpenMlflow]:
    """An open MLflow server on another origin, which must not receive a credential."""
    server = OpenMlflow(mlflow_server.url, sandbox_folder / "foreign")
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def whole_stand(
    mlflow_server: MlflowServer, foreign_server: OpenMlflow, sandbox_folder: Path
) -> Iterator[Stand]:
    """The stand in front of the session's MLflow server."""
    installed = os.environ.get("HTTP_STAND")
    if not installed:
        pytest.fail("HTTP_STAND names no folder with the stand's programs: run nox -s http_stand.")
    folder = sandbox_folder / "stand"
    with Stand(Path(installed), folder, mlflow_server.url, foreign_server.url) as stand:
        yield stand


@pytest.fixture
def foreign(foreign_server: OpenMlflow) -> OpenMlflow:
    """The other origin, before it received any request."""
    foreign_server.headers.clear()
    return foreign_server


@pytest.fixture
def stand(whole_stand: Stand) -> Stand:
    """The stand, before any request."""
    (whole_stand.folder / "access.log").write_text("")
    return whole_stand
