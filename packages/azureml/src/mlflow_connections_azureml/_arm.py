"""`sdk: arm`: one request to Azure Resource Manager. azureml-core is never imported."""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from mlflow_connections import ConnectionsError

from ._binding import bind
from ._credential import Credential, credential_for
from ._deadline import Deadline
from ._failures import Answer, error_code, explain, explain_answer, private_link
from ._options import Workspace

if TYPE_CHECKING:
    import requests

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
    answer = _get(
        f"https://{cloud.arm}{quote(workspace.resource_id)}?api-version={API_VERSION}",
        token,
        deadline,
        (workspace, credential),
    )
    if answer.status_code != 200:
        failure = Answer(answer.status_code, error_code(answer))
        raise explain_answer(failure, workspace, credential.identity)
    properties = _properties(answer)
    uri = _with_mlflow_2(properties.get("mlFlowTrackingUri"), workspace)
    if properties.get("publicNetworkAccess") == "Disabled":
        _knock(uri, token, deadline, (workspace, credential))
    bind(uri, workspace, credential)
    return uri


def _get(
    url: str, token: str, deadline: Deadline, asked: tuple[Workspace, Credential]
) -> "requests.Response":
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    # ARM throttles, and its gateways fail now and then; both say so before anything was done.
    retry = Retry(2, backoff_factor=0.5, status_forcelist=(429, 502, 503), raise_on_status=False)
    with requests.Session() as session:
        session.mount("https://", HTTPAdapter(max_retries=retry))
        try:
            return session.get(
                url, headers={"Authorization": f"Bearer {token}"}, timeout=deadline.left
            )
        except requests.RequestException as error:
            workspace, credential = asked
            raise explain(error, workspace, credential.identity) from error


def _properties(answer: "requests.Response") -> dict[str, Any]:
    try:
        properties = answer.json()["properties"]
    except (ValueError, KeyError, TypeError):
        properties = None
    return properties if isinstance(properties, dict) else {}


def _with_mlflow_2(uri: object, workspace: Workspace) -> str:
    """Take the address that MLflow 2 and 3 talk to, as azureml-mlflow does: ARM says v1.0."""
    if not isinstance(uri, str) or not uri.startswith("azureml://"):
        raise ConnectionsError(
            f"Azure Resource Manager names no tracking URI for the workspace '{workspace.name}'. "
            "Check that it is a workspace and no hub without MLflow, or use `sdk: v1`."
        )
    return uri.replace("/mlflow/v1.0", "/mlflow/v2.0")


def _knock(uri: str, token: str, deadline: Deadline, asked: tuple[Workspace, Credential]) -> None:
    """Ask the host of a workspace without public access whether it would answer this machine."""
    workspace, _ = asked
    host = urlsplit(uri).netloc
    deadline.waiting_for = f"{host}, the host of a workspace with a private link,"
    answer = _get(f"https://{host}/discovery", token, deadline, asked)
    if answer.status_code == 403:
        raise private_link(workspace)
