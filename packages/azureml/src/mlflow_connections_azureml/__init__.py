"""The MLflow connection `azureml`: the tracking URI of an Azure Machine Learning workspace."""

from ._connection import AzureMLConnection

connection = AzureMLConnection()
"""The instance that is registered under the keyword `azureml`."""

__all__ = ["AzureMLConnection", "connection"]
