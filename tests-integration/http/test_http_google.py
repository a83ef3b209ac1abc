"""`google_audience`: unmodified google-auth with local fakes of Google's endpoints, in front of a real MLflow server.

google-auth's own variables name the metadata server, and the service account's file the token
endpoint. The hosts of workload identity federation are fixed, so google-auth reaches them through a
proxy, set by HTTPS_PROXY.
"""

import json
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl

import mlflow
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from mlflow_connections import use
from mlflow_connections_sandbox import MlflowServer, OpenMlflow, StandIn
from mlflow_connections_sandbox._azure._proxy import Proxy

if TYPE_CHECKING:
    from starlette.types import ASGIApp

AUDIENCE = "1234.apps.googleusercontent.com"
ACCOUNT = "trainer@project.iam.gserviceaccount.com"
POOL = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q"
HOSTS = ("sts.googleapis.com", "iamcredentials.googleapis.com")
FLAVOR = {"Metadata-Flavor": "Google"}
GRANT = "urn:ietf:params:oauth:grant-type:"


class Google(StandIn):
    """The metadata server, the token endpoint of service accounts, the token service and IAM Credentials.

    Attributes:
        lifetime: Seconds between `iat` and `exp` of an identity token.
        tokens: The identity tokens issued, with the endpoint that issued each.
        key: The service account's own key.
    """

    name: ClassVar[str] = "google"

    def __init__(self, folder: Path) -> None:
        super().__init__("http://127.0.0.1:9", folder)
        self.lifetime = 3600.0
        self.tokens: dict[str, str] = {}
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.pem = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        self.public = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._federated = ""

    def environment(self) -> dict[str, str]:
        """Return the variables that direct google-auth to the metadata server."""
        host = f"127.0.0.1:{self.port}"
        return {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host}

    def app(self) -> "ASGIApp":
        """Create the ASGI application."""
        metadata = "/computeMetadata/v1/instance/service-accounts/default"
        return Starlette(
            routes=[
                Route("/", lambda _: PlainTextResponse("", headers=FLAVOR)),
                Route(f"{metadata}/", self._account),
                Route(f"{metadata}/identity", self._identity),
                Route("/token", self._token, methods=["POST"]),
                Route("/v1/token", self._exchange, methods=["POST"]),
                Route(
                    f"/v1/projects/-/serviceAccounts/{ACCOUNT}:generateIdToken",
                    self._generate,
                    methods=["POST"],
                ),
            ]
        )

    def issue(self, audience: str, endpoint: str) -> str:
        """Return a signed identity token."""
        now = time.time()
        claims = {"aud": audience, "iat": now, "exp": now + self.lifetime, "email": ACCOUNT}
        signer = crypt.RSASigner.from_string(self.pem)  # type: ignore[no-untyped-call,unused-ignore]
        token = str(jwt.encode(signer, claims).decode())  # type: ignore[no-untyped-call,unused-ignore]
        self.tokens[token] = endpoint
        return token

    def _account(self, request: Request) -> Response:
        if request.headers.get("metadata-flavor") != "Google":
            return PlainTextResponse("Missing Metadata-Flavor:Google header.", 403)
        return JSONResponse(
            {"email": ACCOUNT, "aliases": ["default"], "scopes": []}, headers=FLAVOR
        )

    def _identity(self, request: Request) -> Response:
        audience = request.query_params.get("audience")
        if request.headers.get("metadata-flavor") != "Google" or not audience:
            return PlainTextResponse("a header or the audience is missing", 403)
        return PlainTextResponse(self.issue(audience, "metadata"), headers=FLAVOR)

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        try:
            claims = jwt.decode(str(form["assertion"]), certs=self.public)  # type: ignore[no-untyped-call,unused-ignore]
        except ValueError as error:
            answer = {"error": "invalid_grant", "error_description": str(error)}
            return JSONResponse(answer, 400)
        if form["grant_type"] != f"{GRANT}jwt-bearer" or claims["iss"] != ACCOUNT:
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse({"id_token": self.issue(claims["target_audience"], "token")})

    async def _exchange(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        wanted = {
            "grant_type": f"{GRANT}token-exchange",
            "audience": POOL,
            "subject_token": "from-the-cluster",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        }
        if any(form.get(name) != value for name, value in wanted.items()):
            return JSONResponse({"error": "invalid_request"}, 400)
        self._federated = f"federated-{len(self.tokens)}"
        return JSONResponse(
            {
                "access_token": self._federated,
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": 3600,
            }
        )

    async def _generate(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self._federated}":
            return JSONResponse({"error": {"code": 401, "status": "UNAUTHENTICATED"}}, 401)
        body = await request.json()
        if body.get("includeEmail") is not True:
            return JSONResponse({"error": {"code": 400, "status": "INVALID_ARGUMENT"}}, 400)
        return JSONResponse({"token": self.issue(body["audience"], "iam")})


class IdentityAwareProxy(OpenMlflow):
    """MLflow behind identity tokens for one audience; clients without one are sent to sign in."""

    name: ClassVar[str] = "iap"

    def __init__(self, mlflow_url: str, folder: Path, google: Google) -> None:
        super().__init__(mlflow_url, folder)
        self.google = google

    def forward(self, request: Request) -> Response:
        """Check the token of a request."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer":
            return RedirectResponse("https://accounts.google.com/o/oauth2/v2/auth", 302)
        if token not in self.google.tokens:
            return PlainTextResponse("Invalid IAP credentials: unknown token", 401)
        claims = jwt.decode(token, verify=False)  # type: ignore[no-untyped-call,unused-ignore]
        if claims["aud"] != AUDIENCE or claims["exp"] < time.time():
            return PlainTextResponse("Invalid IAP credentials: audience or expiry", 401)
        return super().forward(request)


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    """Google's endpoints for this process: google-auth reads the metadata server's address on import."""
    google = Google(tmp_path_factory.mktemp("google"))
    google.start()
    assert "google.auth.compute_engine._metadata" not in sys.modules
    with pytest.MonkeyPatch.context() as patch:
        for name, value in google.environment().items():
            patch.setenv(name, value)
        import_module("google.auth.compute_engine._metadata")
        yield google
    google.close()


@pytest.fixture
def google(endpoints: Google) -> Google:
    """Google's endpoints, which have issued nothing."""
    endpoints.tokens.clear()
    endpoints.journal.clear()
    endpoints.lifetime = 3600.0
    return endpoints


@pytest.fixture
def iap(
    google: Google, mlflow_server: MlflowServer, tmp_path: Path
) -> Iterator[IdentityAwareProxy]:
    """A server behind Google's identity tokens."""
    stand_in = IdentityAwareProxy(mlflow_server.url, tmp_path / "iap", google)
    stand_in.start()
    yield stand_in
    stand_in.close()


@pytest.fixture
def proxied(google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A proxy in which Google's fixed hosts are this machine."""
    proxy = Proxy(HOSTS, google.port, tmp_path)
    proxy.start()
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(proxy.bundle))
    yield
    proxy.close()


def service_account(google: Google, folder: Path, **more: Any) -> str:
    """Write the file of a service account's key, and return its path."""
    content = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1",
        "private_key": google.pem,
        "client_email": ACCOUNT,
        "client_id": "1",
        "token_uri": f"{google.url}/token",
        **more,
    }
    path = folder / "service-account.json"
    path.write_text(json.dumps(content))
    return str(path)


def federation(folder: Path, **more: Any) -> str:
    """Write the file of workload identity federation, as `gcloud` does, and return its path."""
    (folder / "subject").write_text("from-the-cluster")
    content = {
        "type": "external_account",
        "audience": POOL,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": str(folder / "subject")},
        "service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/"
        f"serviceAccounts/{ACCOUNT}:generateAccessToken",
        **more,
    }
    path = folder / "federation.json"
    path.write_text(json.dumps(content))
    return str(path)


def log_and_read(iap: IdentityAwareProxy) -> None:
    """Log a run with an artifact and read it back."""
    with use("http", {}, {"url": iap.url, "google_audience": AUDIENCE}):
        mlflow.set_experiment("behind-google")
        with mlflow.start_run() as started:
            mlflow.log_metric("m", 1.0)
            mlflow.log_text("kept", "a.txt")
        assert mlflow.artifacts.load_text(f"{started.info.artifact_uri}/a.txt") == "kept"
        assert mlflow.get_run(started.info.run_id).data.metrics == {"m": 1.0}


def test_the_metadata_server_signs_in(google: Google, iap: IdentityAwareProxy) -> None:
    """With an attached service account, one token serves all requests."""
    log_and_read(iap)
    assert list(google.tokens.values()) == ["metadata"]


def test_a_service_account_file_signs_in(
    google: Google, iap: IdentityAwareProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The assertion is signed with the file's key; the metadata server is not used."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", service_account(google, tmp_path))
    log_and_read(iap)
    assert list(google.tokens.values()) == ["token"]


@pytest.mark.usefixtures("proxied")
def test_workload_identity_federation_signs_in(
    google: Google, iap: IdentityAwareProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster's token is exchanged, and the service account issues the identity token."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", federation(tmp_path))
    log_and_read(iap)
    assert list(google.tokens.values()) == ["iam"]
    asked = [each.path for each in google.journal.requests("/v1/")]
    assert asked == ["/v1/token", f"/v1/projects/-/serviceAccounts/{ACCOUNT}:generateIdToken"]


def test_a_token_is_renewed(google: Google, iap: IdentityAwareProxy) -> None:
    """At 80 % of a lifetime a new one is fetched, without a refusal in between."""
    google.lifetime = 2.0
    with use("http", {}, {"url": iap.url, "google_audience": AUDIENCE}):
        client = mlflow.MlflowClient()
        for _ in range(4):
            client.search_experiments()
            time.sleep(0.9)
    assert len(google.tokens) >= 2
    assert 401 not in iap.journal.counts()


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        ("another key", "Google issued no identity token for '1234.*invalid_grant"),
        ("no account", "names no service account to impersonate"),
        ("no file", "GOOGLE_APPLICATION_CREDENTIALS path is either not found or invalid"),
    ],
)
def test_a_refusal_of_google_is_one_sentence(
    google: Google,
    iap: IdentityAwareProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: str,
    sentence: str,
) -> None:
    """A wrong key, a federation without an account and a missing file show no key and send nothing."""
    other = Google(tmp_path / "other")
    path = {
        "another key": lambda: service_account(google, tmp_path, private_key=other.pem),
        "no account": lambda: federation(tmp_path, service_account_impersonation_url=""),
        "no file": lambda: str(tmp_path / "none.json"),
    }[write]()
    other.close()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
    with (
        use("http", {}, {"url": iap.url, "google_audience": AUDIENCE}),
        pytest.raises(Exception, match=sentence) as caught,
    ):
        mlflow.MlflowClient().search_experiments()
    assert "PRIVATE KEY" not in str(caught.value)
    assert iap.headers == []
