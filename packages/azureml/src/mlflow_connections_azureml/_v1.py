"""`sdk: v1`: azureml-core's Workspace gives the URI, as the specification says."""

import logging
from typing import TYPE_CHECKING, Any

from mlflow_connections import MissingDependencyError

from ._credential import Credential, credential_for
from ._deadline import Deadline
from ._failures import explain
from ._options import Workspace

if TYPE_CHECKING:
    from azureml.core.authentication import AbstractAuthentication

logger = logging.getLogger(__package__)


def tracking_uri(values: dict[str, Any], deadline: Deadline) -> str:
    """Open the workspace with azureml-core, which also binds the credential for its URI."""
    try:
        from azureml.core import Workspace as SdkWorkspace
    except ImportError as error:
        raise MissingDependencyError(
            f"azureml-core cannot be imported: {error}. Run: pip install azureml-core, or use "
            "`sdk: arm`, which does not need it."
        ) from error
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
            auth=_authentication(credential, values["cloud"]),
            _cloud=values["cloud"],
        )
        deadline.waiting_for = f"The discovery service of the workspace '{workspace.name}'"
        uri: str = opened.get_mlflow_tracking_uri()
    except Exception as error:
        logger.debug("azureml-core could not give the tracking URI.", exc_info=True)
        # Not chained: its messages list the tenant's subscriptions.
        raise explain(error, workspace, credential.identity) from None
    return uri


def _authentication(credential: Credential, cloud: str) -> "AbstractAuthentication":
    """Wrap the credential as azureml-core wants it.

    Its own classes may ask a person to sign in, want azure-cli in the same environment, or do not
    know workload identities.
    """
    from azureml.core.authentication import ArmTokenAuthentication

    class IdentityAuthentication(ArmTokenAuthentication):  # type: ignore[misc]  # untyped package
        """An ARM token that is fetched anew whenever it is wanted; azure-identity caches it."""

        def __init__(self) -> None:
            super().__init__(None, cloud=cloud)

        def _get_arm_token(self) -> str:
            return credential.get_token(credential.cloud.scope).token

    return IdentityAuthentication()
