"""The workspace as a whole: its routes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from mlflow_connections_sandbox._stand_in import StandIn

from ._access import WorkspaceAccess
from ._artifacts import Registry, WorkspaceArtifacts
from ._dbfs import Dbfs
from ._errors import ApiError, endpoint_not_found
from ._tracking import USER, Tracking
from ._unity_catalog import UnityCatalog

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
_VERSIONS = ("2.0", "3.0")
_WORKSPACE_ID = "1234567890123456"

Endpoint = Callable[[Request], Response]


class Databricks(StandIn):
    """A workspace for the unmodified MLflow client with databricks-sdk.

    Attributes:
        access: Its tokens and its OAuth clients.
        unity_catalog: Its Unity Catalog, with the catalog `main`.
    """

    name = "databricks"
    title = "Databricks"
    prefixes = ("DATABRICKS_",)

    def __init__(self, mlflow_url: str, folder: Path) -> None:
        super().__init__(mlflow_url, folder)
        self.access = WorkspaceAccess()
        names = ("token", "client_id", "client_secret", "other_client_id", "other_client_secret")
        self.kept.keep(self.access, *names)
        self._tracking = Tracking(self.mlflow, self.kept)
        self.unity_catalog = UnityCatalog(self.mlflow, self.kept)
        self._artifacts = WorkspaceArtifacts(
            self.url, self.mlflow, self._tracking, self.unity_catalog, self.kept
        )

    def environment(self) -> Mapping[str, str]:
        """Return the workspace's address and its personal token."""
        return {"DATABRICKS_HOST": self.url, "DATABRICKS_TOKEN": self.access.token}

    def app(self) -> "ASGIApp":
        """Return the application."""
        return Starlette(
            routes=[*self._open_routes(), *self._token_routes()],
            exception_handlers={ApiError: _answer_error},
        )

    def _open_routes(self) -> list[Route]:
        """Return the routes without a token: token requests, pages for people, and signed URLs."""
        return [
            Route("/.well-known/databricks-config", self._configuration),
            Route("/oidc/.well-known/oauth-authorization-server", self._openid),
            Route("/oidc/v1/token", self.access.issue_token, methods=["POST"]),
            Route("/ml/{path:path}", self._page),
            Route(
                "/storage/{expires:int}/{signature}/{path:path}",
                self._signed,
                methods=["GET", "HEAD", "PUT"],
            ),
        ]

    def _token_routes(self) -> list[Route]:
        dbfs = Dbfs(self.folder / "dbfs")
        registry = Registry(self._tracking, self._artifacts)
        artifacts = self._artifacts
        api = "/api/2.0"
        endpoints: list[tuple[str, Endpoint]] = [
            (f"{api}/preview/scim/v2/Me", _me),
            (f"{api}/workspace/mkdirs", self._tracking.make_folder),
            (f"{api}/dbfs/get-status", dbfs.status),
            (f"{api}/dbfs/list", dbfs.list_folder),
            ("/dbfs/{path:path}", dbfs.file),
            (f"{api}/fs/files/{{path:path}}", artifacts.file),
            (f"{api}/fs/directories/{{path:path}}", artifacts.folder),
            (f"{api}/fs/create-upload-url", artifacts.url),
            (f"{api}/fs/create-download-url", artifacts.url),
            (f"{api}/mlflow/unity-catalog/{{call:path}}", self.unity_catalog.answer),
            (f"{api}/mlflow/model-versions/list-artifacts", registry.list_artifacts),
            (f"{api}/mlflow/model-versions/get-signed-download-uri", registry.signed_download),
        ]
        endpoints += [
            (f"{api}/mlflow/artifacts/credentials-for-{way}", artifacts.run_credentials)
            for way in ("read", "write")
        ]
        for way in ("download", "upload"):
            models = f"{api}/mlflow/logged-models/{{model_id}}/artifacts"
            traces = f"{api}/mlflow/traces/{{request_id}}"
            endpoints += [
                (f"{models}/credentials-for-{way}", artifacts.model_credentials),
                (f"{traces}/credentials-for-data-{way}", artifacts.trace_credentials),
            ]
        endpoints += [(f"/api/{v}/mlflow/{{path:path}}", self._tracking.forward) for v in _VERSIONS]
        endpoints.append(("/{path:path}", _nothing_here))
        return [Route(path, self._guarded(endpoint), methods=_ANY) for path, endpoint in endpoints]

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        def guarded(request: Request) -> Response:
            self.access.check(request)
            response = endpoint(request)
            response.headers["X-Databricks-Org-Id"] = _WORKSPACE_ID
            return response

        return guarded

    def _signed(self, request: Request) -> Response:
        return self._artifacts.signed(request)

    def _page(self, request: Request) -> Response:
        """Redirect to MLflow's own pages: the client prints such a link at the end of each run."""
        return RedirectResponse(f"{self.mlflow.url}/#/{request.path_params['path']}")

    def _configuration(self, request: Request) -> Response:  # noqa: ARG002 - its content is irrelevant
        return JSONResponse(
            {
                "oidc_endpoint": f"{self.url}/oidc",
                "account_id": "00000000-0000-0000-0000-000000000000",
                "workspace_id": _WORKSPACE_ID,
                "cloud": "AWS",
            }
        )

    def _openid(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse(
            {
                "issuer": f"{self.url}/oidc",
                "authorization_endpoint": f"{self.url}/oidc/v1/authorize",
                "token_endpoint": f"{self.url}/oidc/v1/token",
                "grant_types_supported": ["client_credentials"],
                "scopes_supported": ["all-apis"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            }
        )


def _answer_error(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this one
    return error.answer()


def _me(request: Request) -> Response:  # noqa: ARG001
    body = {"userName": USER, "active": True, "id": "1"}
    return JSONResponse(body)


def _nothing_here(request: Request) -> Response:
    raise endpoint_not_found(request.method, request.url.path)
