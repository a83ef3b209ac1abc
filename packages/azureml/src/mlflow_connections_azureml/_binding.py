"""Binding a credential to a tracking URI: azureml-mlflow looks there before it looks anywhere else.

Unbound, azureml-mlflow ends at a browser, then at a device code, and waits for a person.
"""

import sys

from mlflow_connections import MissingDependencyError

from ._credential import Credential
from ._options import Workspace

_pending: dict[str, tuple[Workspace, Credential]] = {}


def bind(uri: str, workspace: Workspace, credential: Credential) -> None:
    """Let azureml-mlflow use a credential for a URI, now or once MLflow is imported.

    azureml-mlflow costs a second and 25 MB, and is imported with MLflow anyway: see `_worker`.
    """
    if "mlflow" in sys.modules:
        _bind(uri, workspace, credential)
    else:
        _pending[uri] = workspace, credential


def bind_pending() -> None:
    """Bind what was asked for before MLflow was imported."""
    while _pending:
        uri, (workspace, credential) = _pending.popitem()
        _bind(uri, workspace, credential)


def is_bound(uri: str) -> bool:
    """Tell whether a credential was bound to a URI in this process."""
    from azureml.mlflow._internal.service_context_loader import _AzureMLServiceContextLoader

    return bool(_AzureMLServiceContextLoader.has_service_context(uri))


def _bind(uri: str, workspace: Workspace, credential: Credential) -> None:
    """Do what azureml.mlflow.get_mlflow_tracking_uri_v2 does, without its import of MLflow."""
    from urllib.parse import urlsplit

    try:
        from azureml.mlflow._internal.service_context_loader import _AzureMLServiceContextLoader
        from azureml.mlflow._internal.utils import convertToServiceContext
    except ImportError as error:
        raise MissingDependencyError(
            f"azureml-mlflow cannot be imported: {error}. Run: pip install azureml-mlflow."
        ) from error

    context = convertToServiceContext(
        subscription_id=workspace.subscription_id,
        workspace_name=workspace.name,
        resource_group=workspace.resource_group,
        auth=credential,
        host_url=f"https://{urlsplit(uri).netloc}",
    )
    _AzureMLServiceContextLoader.add_service_context(uri, context)
