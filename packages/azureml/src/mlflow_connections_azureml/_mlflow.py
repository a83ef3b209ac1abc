"""The table in which azureml-mlflow looks up a credential by the tracking URI."""

import sys
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from mlflow_connections import MissingDependencyError
from mlflow_connections.secrets import masked

from ._options import Workspace

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken


class TokenSource(Protocol):
    """A token credential in azure-core's sense."""

    def get_token(self, *scopes: str, **options: Any) -> "AccessToken":
        """Return a token."""


def add_service_context(uri: str, workspace: Workspace, credential: TokenSource) -> None:
    """Do the work of azureml.mlflow.get_mlflow_tracking_uri_v2, without importing MLflow.

    Args:
        uri: The tracking URI; its query is ignored.
        workspace: The workspace of the URI.
        credential: Returns the tokens.

    Raises:
        MissingDependencyError: azureml-mlflow cannot be imported.
    """
    try:
        from azureml.mlflow._internal.service_context_loader import _AzureMLServiceContextLoader
        from azureml.mlflow._internal.utils import convertToServiceContext
    except ImportError as error:
        raise MissingDependencyError(
            f"azureml-mlflow cannot be imported: {error}. Run: pip install azureml-mlflow."
        ) from masked(error)

    context = convertToServiceContext(
        subscription_id=workspace.subscription_id,
        workspace_name=workspace.name,
        resource_group=workspace.resource_group,
        auth=credential,
        host_url=f"https://{urlsplit(uri).netloc}",
    )
    _AzureMLServiceContextLoader.add_service_context(uri, context)


def remove_service_context(uri: str) -> None:
    """Remove a URI without a query from azureml-mlflow's table."""
    loader = sys.modules.get("azureml.mlflow._internal.service_context_loader")
    if loader is not None:
        contexts = loader._AzureMLServiceContextLoader._tracking_uri_to_service_context
        contexts.pop(uri, None)


def is_bound(uri: str) -> bool:
    """Return whether azureml-mlflow has a credential for a URI in this process."""
    from azureml.mlflow._internal.service_context_loader import _AzureMLServiceContextLoader

    return bool(_AzureMLServiceContextLoader.has_service_context(uri))
