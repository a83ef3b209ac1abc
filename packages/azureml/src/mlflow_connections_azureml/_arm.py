"""`sdk: arm`: one request to Azure Resource Manager. azureml-core is never imported."""

from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from mlflow_connections import ConnectionsError, UnreachableError

from ._binding import bind
from ._credential import credential_for
from ._deadline import Deadline
from ._evidence import answer_of
from ._failures import Asked, explain, explain_answer, private_link
from ._options import Workspace

API_VERSION = "2024-04-01"
"""Of the resource type Microsoft.MachineLearningServices/workspaces; it has mlFlowTrackingUri."""


def tracking_uri(values: dict[str, Any], deadline: Deadline) -> str:
    """Ask ARM for the workspace's tracking URI, and bind the credential for it."""
    workspace = Workspace.of(values)
    credential = credential_for(values)
    cloud = credential.cloud
    deadline.waiting_for = f"The sign-in of {credential.identity} at {cloud.login}"
    token = credential.get_token(cloud.scope).token
    deadline.waiting_for = f"Azure Resource Manager at {cloud.arm}"
    asked = Asked(cloud.arm, workspace, credential.identity)
    path = f"{quote(workspace.resource_id)}?api-version={API_VERSION}"
    properties = _properties(_get(path, token, deadline, asked), asked)
    uri = _with_mlflow_2(properties.get("mlFlowTrackingUri"), workspace)
    if properties.get("publicNetworkAccess") == "Disabled":
        _knock(token, deadline, asked._replace(host=urlsplit(uri).netloc))
    bind(uri, workspace, credential)
    return uri


def _get(path: str, token: str, deadline: Deadline, asked: Asked) -> requests.Response:
    # ARM throttles, and its gateways fail now and then; both say so before anything was done.
    retry = Retry(2, backoff_factor=0.5, status_forcelist=(429, 502, 503), raise_on_status=False)
    with requests.Session() as session:
        session.mount("https://", HTTPAdapter(max_retries=retry))
        try:
            return session.get(
                f"https://{asked.host}{path}",
                headers={"Authorization": f"Bearer {token}"},
                # The deadline itself comes first, and says who was asked.
                timeout=deadline.left + 1,
            )
        except requests.RequestException as error:
            raise explain(error, asked) from error


def _properties(response: requests.Response, asked: Asked) -> dict[str, Any]:
    if response.status_code != 200:
        raise explain_answer(answer_of(response), asked)
    try:
        properties = response.json()["properties"]
    except (ValueError, KeyError, TypeError):
        properties = None
    if not isinstance(properties, dict):
        raise UnreachableError(
            f"What answered for {asked.host} is not Azure Resource Manager. Check HTTPS_PROXY, and "
            "whether a proxy or a login page answers in its place."
        )
    return properties


def _with_mlflow_2(uri: object, workspace: Workspace) -> str:
    """Take the address that MLflow 2 and 3 talk to, as azureml-mlflow does: ARM says v1.0."""
    if not isinstance(uri, str) or not uri.startswith("azureml://"):
        raise ConnectionsError(
            f"Azure Resource Manager names no tracking URI for the workspace '{workspace.name}'. "
            "Check that it is a workspace that has MLflow, or use `sdk: v1`."
        )
    return uri.replace("/mlflow/v1.0", "/mlflow/v2.0")


def _knock(token: str, deadline: Deadline, asked: Asked) -> None:
    """Ask the host of a workspace without public access whether it would answer this machine."""
    deadline.waiting_for = f"{asked.host}, the host of a workspace with a private link,"
    if _get("/discovery", token, deadline, asked).status_code == 403:
        raise private_link(asked.workspace)
