"""The host names of the Azure clouds."""

from typing import NamedTuple


class Cloud(NamedTuple):
    """Where one cloud answers.

    Attributes:
        login: The host of Microsoft Entra ID.
        arm: The host of Azure Resource Manager.
        classic: The resource that older clients ask a token of ARM for.
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
        """What a token of ARM may be made for."""
        return f"https://{self.arm}", f"https://{self.classic}"


CLOUDS = {
    "AzureCloud": Cloud(
        login="login.microsoftonline.com",
        arm="management.azure.com",
        classic="management.core.windows.net",
        ml="azureml.ms",
        ml_portal="https://ml.azure.com",
        storage="core.windows.net",
    ),
    "AzureUSGovernment": Cloud(
        login="login.microsoftonline.us",
        arm="management.usgovcloudapi.net",
        classic="management.core.usgovcloudapi.net",
        ml="ml.azure.us",
        ml_portal="https://ml.azure.us",
        storage="core.usgovcloudapi.net",
    ),
    "AzureChinaCloud": Cloud(
        login="login.chinacloudapi.cn",
        arm="management.chinacloudapi.cn",
        classic="management.core.chinacloudapi.cn",
        ml="ml.azure.cn",
        ml_portal="https://ml.azure.cn",
        storage="core.chinacloudapi.cn",
    ),
}
