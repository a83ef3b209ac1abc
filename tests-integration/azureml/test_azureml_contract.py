"""The contract of every connection, tested with the sandbox's Azure."""

import pytest

from mlflow_connections.testing import ConnectionContract
from mlflow_connections_sandbox._azure import Azure
from mlflow_connections_sandbox._azure._account import AzureAccount

ACCOUNT = AzureAccount()
"""The methods of every stand-in, except for its secrets."""


class TestAzureML(ConnectionContract):
    """The contract of connections, with `sdk: arm` and a service principal."""

    keyword = "azureml"
    options = {  # noqa: RUF012 - as in the contract
        "subscription_id": ACCOUNT.subscription_id,
        "resource_group": ACCOUNT.resource_group,
        "workspace_name": ACCOUNT.workspace_name,
        "sdk": "arm",
    }
    tracking_uri = f"azureml://westeurope.api.azureml.ms/mlflow/v2.0{ACCOUNT.scope}"
    forbidden_imports = ("azure.core", "azureml", "kedro", "mlflow", "requests")

    @pytest.fixture(autouse=True)
    def _azure(self, azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in azure.network().items():
            monkeypatch.setenv(name, value)
        type(self).credentials = {
            "tenant_id": azure.account.tenant_id,
            "client_id": azure.account.client_id,
            "client_secret": azure.account.client_secret,
        }
