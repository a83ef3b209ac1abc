"""What the connection can be told."""

from typing import Any, NamedTuple

from mlflow_connections import Option

from ._clouds import CLOUD_VARIABLE, CLOUDS

SECONDS = 60.0
SECONDS_INTERACTIVE = 300.0

OPTIONS = (
    Option(
        "subscription_id",
        "The id of the Azure subscription that holds the workspace.",
        env="AZUREML_SUBSCRIPTION_ID",
        required=True,
    ),
    Option(
        "resource_group",
        "The resource group of the workspace.",
        env="AZUREML_RESOURCE_GROUP",
        required=True,
    ),
    Option(
        "workspace_name",
        "The name of the workspace.",
        env="AZUREML_WORKSPACE_NAME",
        required=True,
    ),
    Option(
        "sdk",
        "Where the URI comes from: `v1` asks azureml-core's Workspace, `arm` sends one request to "
        "Azure Resource Manager and never imports azureml-core.",
        default="v1",
        choices=("v1", "arm"),
    ),
    Option(
        "cloud",
        "The Azure cloud of the workspace.",
        env=CLOUD_VARIABLE,
        default="AzureCloud",
        choices=tuple(CLOUDS),
    ),
    Option(
        "managed_identity_client_id",
        "The client id of a user-assigned managed identity; nothing else is tried then.",
    ),
    Option(
        "interactive",
        "Whether a person may be asked to sign in, in a browser or with a device code.",
        type=bool,
        default=False,
    ),
    Option(
        "timeout",
        f"Seconds for all that Azure is asked ({SECONDS:.0f}, or {SECONDS_INTERACTIVE:.0f} where "
        "`interactive` is true).",
        type=float,
    ),
    Option(
        "share_with_workers",
        "Whether the service principal, its secret too, or the managed identity's client id is put "
        "into the environment as AZURE_*, for processes that are started later.",
        type=bool,
        default=False,
    ),
    # The variables are those that azureml-core itself reads.
    Option(
        "tenant_id",
        "The tenant of the service principal; without one, the tenant to sign in to.",
        env="AZUREML_SERVICE_PRINCIPAL_TENANT_ID",
        credential=True,
    ),
    Option(
        "client_id",
        "The application (client) id of the service principal.",
        env="AZUREML_SERVICE_PRINCIPAL_ID",
        credential=True,
    ),
    Option(
        "client_secret",
        "The client secret of the service principal.",
        env="AZUREML_SERVICE_PRINCIPAL_PASSWORD",
        secret=True,
    ),
)


class Workspace(NamedTuple):
    """A workspace, as Azure names it."""

    subscription_id: str
    resource_group: str
    name: str

    @property
    def resource_id(self) -> str:
        """The path of the workspace below Azure Resource Manager, and within its tracking URI."""
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.name}"
        )

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Workspace":
        """Take it from the connection's values."""
        return cls(values["subscription_id"], values["resource_group"], values["workspace_name"])
