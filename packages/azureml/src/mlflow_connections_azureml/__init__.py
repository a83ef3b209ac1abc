"""The MLflow connection `azureml`: the tracking URI of an Azure Machine Learning workspace."""

from typing import TYPE_CHECKING

from mlflow_connections.lazy import lazy_names

from ._connection import AzureMLConnection

if TYPE_CHECKING:
    from ._authenticator import AzureMLAuthenticator, open_authenticator

connection = AzureMLConnection()
"""The instance that is registered under the keyword `azureml`."""

__all__ = ["AzureMLAuthenticator", "AzureMLConnection", "connection", "open_authenticator"]

# Listing connections needs neither.
__getattr__, __dir__ = lazy_names(
    __name__, {"AzureMLAuthenticator": "._authenticator", "open_authenticator": "._authenticator"}
)
