"""The contract of every connection, tested inside a job, where AzureML needs no server."""

import pytest

from mlflow_connections.testing import ConnectionContract

URI = (
    "azureml://westeurope.api.azureml.ms/mlflow/v2.0/subscriptions/s/resourceGroups/g"
    "/providers/Microsoft.MachineLearningServices/workspaces/w?"
)


class TestInJob(ConnectionContract):
    """The contract of connections holds with the job's own URI."""

    keyword = "azureml"
    options = {"subscription_id": "s", "resource_group": "g", "workspace_name": "w"}  # noqa: RUF012 - as in the contract
    tracking_uri = URI
    forbidden_imports = ("azure.core", "azureml", "kedro", "mlflow", "requests")

    @pytest.fixture(autouse=True)
    def _job(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZUREML_RUN_ID", "run")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", URI)
