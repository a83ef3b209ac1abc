"""`sdk: arm`: one request to Azure Resource Manager, without importing azureml-core."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from mlflow_connections import ConnectionsError
from mlflow_connections.deadline import Deadline
from mlflow_connections.headers import Renewing

from ._errors import Asked, error_response, explain, explain_response, not_from, private_link
from ._options import Workspace, for_every_mlflow
from ._tokens import AzureTokens

API_VERSION = "2024-04-01"
"""The API version of Microsoft.MachineLearningServices/workspaces; its responses have mlFlowTrackingUri."""


def tracking_uri(
    values: dict[str, Any],
    tokens: AzureTokens,
    renewing: Renewing,
    deadline: Deadline,
) -> str:
    """Fetch the workspace's tracking URI from ARM.

    Args:
        values: The connection's values.
        tokens: The identity that signs in.
        renewing: The identity's tokens, kept valid.
        deadline: The time limit.
    """
    workspace = Workspace.of(values)
    cloud, identity = tokens.cloud, tokens.identity
    headers = deadline.call(f"the sign-in of {identity} at {cloud.login}", renewing.headers).values
    asked = Asked(cloud.arm, workspace, identity)
    path = f"{quote(workspace.resource_id)}?api-version={API_VERSION}"
    response = deadline.call(
        f"Azure Resource Manager at {cloud.arm}",
        lambda: _get(path, headers, deadline, asked),
    )
    properties = _properties(response, asked)
    uri = _checked(properties.get("mlFlowTrackingUri"), workspace)
    if properties.get("publicNetworkAccess") == "Disabled":
        _check_reachable(headers, deadline, asked._replace(host=urlsplit(uri).netloc))
    return uri


def _get(
    path: str, headers: Mapping[str, str], deadline: Deadline, asked: Asked
) -> requests.Response:
    # ARM throttles, and its gateways fail now and then. Both respond before they do any work, so a
    # retry is safe.
    retry = Retry(2, backoff_factor=0.5, status_forcelist=(429, 502, 503), raise_on_status=False)
    with requests.Session() as session:
        session.mount("https://", HTTPAdapter(max_retries=retry))
        try:
            return session.get(
                f"https://{asked.host}{path}",
                headers=dict(headers),
                # Check the deadline first: its message names the service.
                timeout=(deadline.left or 0) + 1,
            )
        except requests.RequestException as error:
            raise explain(error, asked) from None


def _properties(response: requests.Response, asked: Asked) -> dict[str, Any]:
    if response.status_code != 200:
        raise explain_response(error_response(response), asked)
    try:
        properties = response.json()["properties"]
    except (ValueError, KeyError, TypeError):
        properties = None
    if not isinstance(properties, dict):
        raise not_from(asked.host, "Azure Resource Manager")
    return properties


def _checked(uri: object, workspace: Workspace) -> str:
    """Return the address that ARM names, for every MLflow."""
    if not isinstance(uri, str) or not uri.startswith("azureml://"):
        raise ConnectionsError(
            f"Azure Resource Manager returned no tracking URI for the workspace '{workspace.name}'. "
            "Check that the workspace has MLflow, or use `sdk: v1`."
        )
    return for_every_mlflow(uri)


def _check_reachable(headers: Mapping[str, str], deadline: Deadline, asked: Asked) -> None:
    """Check that the host of a workspace without public access answers this machine."""
    response = deadline.call(
        f"{asked.host}, the host of a workspace with a private link",
        lambda: _get("/discovery", headers, deadline, asked),
    )
    if response.status_code == 403:
        raise private_link(asked.workspace)
