"""`sdk: v1`: azureml-core's Workspace gives the URI, as the specification says."""

import logging
from typing import Any

# azureml-core imports it to give the URI. Here the time that this takes counts for no timeout.
import mlflow as _mlflow  # noqa: F401
from azureml.core import Workspace as SdkWorkspace
from azureml.core.authentication import ArmTokenAuthentication

from ._credential import Credential, credential_for
from ._deadline import Deadline
from ._failures import Asked, explain
from ._options import Workspace

logger = logging.getLogger(__package__)


def tracking_uri(values: dict[str, Any], deadline: Deadline) -> str:
    """Open the workspace with azureml-core, which also binds the credential for its URI."""
    workspace = Workspace.of(values)
    credential = credential_for(values)
    cloud = credential.cloud
    deadline.waiting_for = f"The sign-in of {credential.identity} at {cloud.login}"
    credential.get_token(cloud.scope)
    deadline.waiting_for = f"Azure Resource Manager at {cloud.arm}"
    try:
        opened = SdkWorkspace(
            workspace.subscription_id,
            workspace.resource_group,
            workspace.name,
            auth=_Authentication(credential, values["cloud"]),
            _cloud=values["cloud"],
        )
        deadline.waiting_for = f"The discovery service of the workspace '{workspace.name}'"
        uri: str = opened.get_mlflow_tracking_uri()
    except Exception as error:
        logger.debug("azureml-core could not give the tracking URI.", exc_info=True)
        # Not chained: its messages list the tenant's subscriptions.
        raise explain(error, Asked(cloud.arm, workspace, credential.identity)) from None
    return uri


class _Authentication(ArmTokenAuthentication):  # type: ignore[misc]  # the package has no types
    """The credential as azureml-core wants it.

    Its own classes may ask a person to sign in, want azure-cli in the same environment, or do not
    know workload identities. azure-identity caches the token that is asked for again and again.
    """

    def __init__(self, credential: Credential, cloud: str) -> None:
        super().__init__(None, cloud=cloud)
        self._credential = credential

    def _get_arm_token(self) -> str:
        token: str = self._credential.get_token(self._credential.cloud.scope).token
        return token
