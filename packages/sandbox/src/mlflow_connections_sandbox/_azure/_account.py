"""The people, programs and resources of this Azure: one tenant, and one workspace in one cloud."""

import secrets
from dataclasses import dataclass, field
from typing import NamedTuple


class AzureCloud(NamedTuple):
    """The hosts of one cloud.

    Attributes:
        login: The host of Microsoft Entra ID.
        arm: The host of Azure Resource Manager.
        classic: ARM's resource for older clients.
        ml: The domain of AzureML's hosts.
        ml_portal: The resource of AzureML's own tokens.
        storage: The suffix of its storage accounts.
    """

    login: str
    arm: str
    classic: str
    ml: str
    ml_portal: str
    storage: str

    @property
    def arm_audiences(self) -> tuple[str, ...]:
        """The audiences of a token that ARM accepts."""
        return f"https://{self.arm}", f"https://{self.classic}"


CLOUDS = {
    "AzureCloud": AzureCloud(
        login="login.microsoftonline.com",
        arm="management.azure.com",
        classic="management.core.windows.net",
        ml="azureml.ms",
        ml_portal="https://ml.azure.com",
        storage="core.windows.net",
    ),
    "AzureUSGovernment": AzureCloud(
        login="login.microsoftonline.us",
        arm="management.usgovcloudapi.net",
        classic="management.core.usgovcloudapi.net",
        ml="ml.azure.us",
        ml_portal="https://ml.azure.us",
        storage="core.usgovcloudapi.net",
    ),
    "AzureChinaCloud": AzureCloud(
        login="login.chinacloudapi.cn",
        arm="management.chinacloudapi.cn",
        classic="management.core.chinacloudapi.cn",
        ml="ml.azure.cn",
        ml_portal="https://ml.azure.cn",
        storage="core.chinacloudapi.cn",
    ),
}


@dataclass
class AzureAccount:
    """The state of the stand-in. A test changes it to change the responses.

    Attributes:
        cloud_name: The cloud of the workspace; the other clouds do not know it.
        tenant_id: The only tenant.
        client_id: The application of the service principal.
        client_secret: Its only secret.
        other_client_id: A second application, with a role on the same workspace.
        other_client_secret: Its secret.
        federated_token: The proof of a workload identity of that application.
        managed_identity_client_id: The user-assigned managed identity; there is a system-assigned
            one as well.
        identity_header: The X-IDENTITY-HEADER that the managed identity's endpoint requires.
        subscription_id: The subscription of the workspace.
        resource_group: Its resource group.
        workspace_name: Its name.
        workspace_id: Its immutable ID.
        region: Its region.
        storage_account: The account that holds its artifacts.
        is_subscription_visible: Whether the identities have a role anywhere in the subscription.
        may_read: Whether they may read the workspace.
        is_private: Whether the workspace has a private link and refuses the public network.
        is_inside: Whether the clients are in the workspace's own network.
        has_logged_models: Whether it has MLflow 3's logged models, which Azure lacked in 2026.
        person_signs_in: Whether a person enters the device codes.
    """

    cloud_name: str = "AzureCloud"
    tenant_id: str = "11111111-1111-4111-8111-111111111111"
    client_id: str = "22222222-2222-4222-8222-222222222222"
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    other_client_id: str = "88888888-8888-4888-8888-888888888888"
    other_client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    federated_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    managed_identity_client_id: str = "33333333-3333-4333-8333-333333333333"
    identity_header: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    subscription_id: str = "44444444-4444-4444-8444-444444444444"
    resource_group: str = "sandbox-group"
    workspace_name: str = "sandbox-workspace"
    workspace_id: str = "55555555-5555-4555-8555-555555555555"
    region: str = "westeurope"
    storage_account: str = "sandboxstorage"
    is_subscription_visible: bool = True
    may_read: bool = True
    is_private: bool = False
    is_inside: bool = False
    has_logged_models: bool = False
    person_signs_in: bool = False

    @property
    def cloud(self) -> AzureCloud:
        """Its cloud."""
        return CLOUDS[self.cloud_name]

    @property
    def scope(self) -> str:
        """The resource ID of the workspace."""
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace_name}"
        )

    @property
    def workspace_host(self) -> str:
        """The host of the workspace: its region's, or its own with a private link."""
        own = f"{self.workspace_id}.workspace." if self.is_private else ""
        return f"{own}{self.region}.api.{self.cloud.ml}"

    @property
    def blob_host(self) -> str:
        """The host of its storage account."""
        return f"{self.storage_account}.blob.{self.cloud.storage}"
