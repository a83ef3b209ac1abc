"""The Azure clouds that have Azure Machine Learning, under the names of azureml and the Azure CLI."""

from typing import NamedTuple

CLOUD_VARIABLE = "AZUREML_CURRENT_CLOUD"
"""What azureml-core and azureml-mlflow read. Without it the latter asks ARM for a list of clouds."""


class Cloud(NamedTuple):
    """Where one cloud answers.

    Attributes:
        login: The host of Microsoft Entra ID.
        arm: The host of Azure Resource Manager.
    """

    login: str
    arm: str

    @property
    def scope(self) -> str:
        """The scope of the one token that both ARM and the workspace accept."""
        return f"https://{self.arm}/.default"


# https://learn.microsoft.com/azure/azure-government/compare-azure-government-global-azure
# https://learn.microsoft.com/azure/china/resources-developer-guide
CLOUDS = {
    "AzureCloud": Cloud("login.microsoftonline.com", "management.azure.com"),
    "AzureUSGovernment": Cloud("login.microsoftonline.us", "management.usgovcloudapi.net"),
    "AzureChinaCloud": Cloud("login.chinacloudapi.cn", "management.chinacloudapi.cn"),
}
