"""A workspace's host: discovery, and MLflow's REST API in front of the real MLflow server."""

import re
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ._errors import AzureError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from mlflow_connections_sandbox._mlflow_backend import MlflowBackend

    from ._account import AzureAccount
    from ._entra import Tokens

RUN_AUDIENCE = "azureml-run"
"""The audience of the token in a job: its workspace accepts it, and nothing else."""

WORKSPACE_PATH = (
    "/subscriptions/{subscription}/resourceGroups/{group}"
    "/providers/Microsoft.MachineLearningServices/workspaces/{name}"
)

# The artifact locations of the real server, and those that AzureML names.
_SERVER_RUN = re.compile(r"mlflow-artifacts:/(\w+)/([0-9a-f]{32})/artifacts")
_SERVER_MODEL = re.compile(r"mlflow-artifacts:/(\w+)/models/(m-[0-9a-f]{32})/artifacts")
_AZURE_RUN = re.compile(r"azureml://[^\"]*?/experiments/(\w+)/runs/([0-9a-f]{32})/artifacts")
_AZURE_MODEL = re.compile(r"azureml://artifacts/LoggedModel/(\w+)\.(m-[0-9a-f]{32})/artifacts")


class WorkspaceServer:
    """The workspace itself."""

    def __init__(self, account: "AzureAccount", tokens: "Tokens", mlflow: "MlflowBackend") -> None:
        self._account = account
        self._tokens = tokens
        self._mlflow = mlflow

    def routes(self) -> "list[BaseRoute]":
        """Return the routes of the workspace's host, without those for artifacts."""
        api = f"/mlflow/v2.0{WORKSPACE_PATH}/api/2.0/mlflow/{{rest:path}}"
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return [
            Route("/discovery", self._discovery),
            Route(api, self._mlflow_api, methods=methods),
        ]

    def authorize(self, request: "Request") -> None:
        """Check that a request may use this workspace.

        Raises:
            AzureError: 401, 403 or 404.
        """
        account, asked = self._account, request.path_params
        self._need_host(request)
        self.refuse_public_network()
        self._tokens.check(request, (*account.cloud.arm_audiences, RUN_AUDIENCE))
        if not account.may_read:
            raise AzureError(403, "AuthorizationFailed", "The identity has no role here.")
        named = (asked["subscription"], asked["group"].lower(), asked["name"].lower())
        if named != (
            account.subscription_id,
            account.resource_group.lower(),
            account.workspace_name.lower(),
        ):
            raise AzureError(404, "WorkspaceNotFound", "Workspace not found.")

    def refuse_public_network(self) -> None:
        """Refuse the public network if the workspace is private."""
        if self._account.is_private and not self._account.is_inside:
            raise AzureError(403, "Forbidden", "Public network access is disabled.")

    def _need_host(self, request: "Request") -> None:
        if request.url.hostname != self._account.workspace_host:
            raise AzureError(404, "WorkspaceNotFound", "Workspace not found in this region.")

    def _discovery(self, request: "Request") -> "Response":
        self._need_host(request)
        self.refuse_public_network()
        api = f"https://{self._account.workspace_host}"
        names = ("api", "experimentation", "history", "hyperdrive", "modelmanagement", "studio")
        return JSONResponse(dict.fromkeys(names, api))

    def _mlflow_api(self, request: "Request") -> "Response":
        from anyio import from_thread

        self.authorize(request)
        rest = request.path_params["rest"]
        lacks_models = rest.startswith("logged-models") and not self._account.has_logged_models
        if lacks_models or rest.startswith("traces"):
            # With an empty body: Azure/azure-sdk-for-python#44896.
            return Response(status_code=404)
        query = request.url.query
        answer = self._mlflow.call(
            request.method,
            f"/api/2.0/mlflow/{rest}" + (f"?{query}" if query else ""),
            data=_to_server(from_thread.run(request.body).decode()).encode() or None,
            headers={"Content-Type": "application/json"},
        )
        return Response(
            self._to_azure(answer.text), answer.status_code, media_type="application/json"
        )

    def _to_azure(self, text: str) -> str:
        """Replace the real server's artifact locations with AzureML's."""
        account = self._account
        base = f"azureml://{account.workspace_host}/mlflow/v2.0{account.scope}"
        text = _SERVER_RUN.sub(rf"{base}/experiments/\1/runs/\2/artifacts", text)
        return _SERVER_MODEL.sub(r"azureml://artifacts/LoggedModel/\1.\2/artifacts", text)


def _to_server(text: str) -> str:
    text = _AZURE_RUN.sub(r"mlflow-artifacts:/\1/\2/artifacts", text)
    return _AZURE_MODEL.sub(r"mlflow-artifacts:/\1/models/\2/artifacts", text)
