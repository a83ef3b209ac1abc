"""Azure Resource Manager: the list of clouds, the subscriptions, and the workspace."""

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from ._account import CLOUDS
from ._errors import AzureError, need_api_version

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from ._account import AzureAccount
    from ._entra import Tokens

OTHER_SUBSCRIPTION = "Payroll of the neighbouring department"
"""Another subscription of the tenant. No message of a client may repeat its name."""


class Arm:
    """ARM of the workspace's cloud."""

    def __init__(self, account: "AzureAccount", tokens: "Tokens") -> None:
        self._account = account
        self._tokens = tokens

    def routes(self) -> "list[BaseRoute]":
        """Return the routes of ARM's host."""
        workspace = (
            "/subscriptions/{subscription}/resourceGroups/{group}"
            "/providers/Microsoft.MachineLearningServices/workspaces/{name}"
        )
        return [
            Route("/metadata/endpoints", self._clouds),
            Route("/subscriptions", self._subscriptions),
            Route(workspace, self._workspace),
        ]

    def _clouds(self, request: "Request") -> "Response":
        need_api_version(request, "2019-05-01")
        return JSONResponse(
            [
                {
                    "name": name,
                    "authentication": {
                        "loginEndpoint": f"https://{cloud.login}",
                        "audiences": [f"https://{cloud.classic}/", f"https://{cloud.arm}/"],
                        "tenant": "common",
                    },
                    "resourceManager": f"https://{cloud.arm}/",
                    "portal": cloud.ml_portal.replace("ml.", "portal."),
                    "suffixes": {"storage": cloud.storage},
                }
                for name, cloud in CLOUDS.items()
            ]
        )

    def _subscriptions(self, request: "Request") -> "Response":
        self._authenticate(request)
        need_api_version(request, "2022-12-01")
        visible = {"77777777-7777-4777-8777-777777777777": OTHER_SUBSCRIPTION}
        if self._account.is_subscription_visible:
            visible[self._account.subscription_id] = "Sandbox"
        return JSONResponse(
            {
                "value": [
                    {
                        "id": f"/subscriptions/{subscription}",
                        "subscriptionId": subscription,
                        "tenantId": self._account.tenant_id,
                        "displayName": name,
                        "state": "Enabled",
                    }
                    for subscription, name in visible.items()
                ]
            }
        )

    def _workspace(self, request: "Request") -> "Response":
        self._authenticate(request)
        need_api_version(request, "2022-05-01", "2024-04-01")
        account, asked = self._account, request.path_params
        subscription = asked["subscription"]
        if subscription != account.subscription_id or not account.is_subscription_visible:
            raise AzureError(
                404,
                "SubscriptionNotFound",
                f"The subscription '{subscription}' could not be found.",
            )
        if not account.may_read:
            raise AzureError(
                403,
                "AuthorizationFailed",
                f"The client '{account.client_id}' does not have authorization to perform action "
                f"'Microsoft.MachineLearningServices/workspaces/read' over scope '{account.scope}'.",
            )
        if asked["group"].lower() != account.resource_group.lower():
            raise AzureError(
                404, "ResourceGroupNotFound", f"Resource group '{asked['group']}' not found."
            )
        if asked["name"].lower() != account.workspace_name.lower():
            raise AzureError(404, "ResourceNotFound", f"Workspace '{asked['name']}' not found.")
        return JSONResponse(_resource(account))

    def _authenticate(self, request: "Request") -> None:
        if request.url.hostname != self._account.cloud.arm:
            raise AzureError(
                401, "InvalidAuthenticationTokenTenant", "The token is of another cloud's tenant."
            )
        self._tokens.check(request, self._account.cloud.arm_audiences)


def _resource(account: "AzureAccount") -> dict[str, Any]:
    host = account.workspace_host
    return {
        "id": account.scope,
        "name": account.workspace_name,
        "type": "Microsoft.MachineLearningServices/workspaces",
        "location": account.region,
        "tags": {},
        "kind": "Default",
        "sku": {"name": "Basic", "tier": "Basic"},
        "identity": {"type": "SystemAssigned", "tenantId": account.tenant_id},
        "properties": {
            "friendlyName": account.workspace_name,
            "workspaceId": account.workspace_id,
            "provisioningState": "Succeeded",
            "discoveryUrl": f"https://{host}/discovery",
            # ARM still returns v1.0; clients replace it with v2.0.
            "mlFlowTrackingUri": f"azureml://{host}/mlflow/v1.0{account.scope}",
            "publicNetworkAccess": "Disabled" if account.is_private else "Enabled",
        },
    }
