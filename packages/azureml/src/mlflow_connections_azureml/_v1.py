"""`sdk: v1`: azureml-core's Workspace returns the URI, as the specification says."""

from collections.abc import Callable
from typing import Any

# azureml-core imports it for the URI. At the top of this module the import counts for no timeout.
import mlflow as _mlflow  # noqa: F401
from azureml.core import Workspace as SdkWorkspace
from azureml.core.authentication import ArmTokenAuthentication

from mlflow_connections.deadline import Deadline
from mlflow_connections.secrets import get_logger

from ._credential import Credential, credential_for
from ._errors import Asked, explain
from ._mlflow import bind
from ._options import TIMEOUT_REMEDY, Workspace

logger = get_logger(__name__)


def tracking_uri(values: dict[str, Any], session: str, deadline: Deadline) -> str:
    """Open the workspace with azureml-core, and bind the credential to its URI.

    Args:
        values: The connection's values.
        session: The name of this sign-in, under which the credential is bound.
        deadline: The time limit.
    """
    workspace = Workspace.of(values)
    credential = credential_for(values)
    cloud = credential.cloud
    deadline.call(
        f"the sign-in of {credential.identity} at {cloud.login}",
        lambda: credential.get_token(cloud.scope),
        TIMEOUT_REMEDY,
    )
    asked = Asked(cloud.arm, workspace, credential.identity)

    def opened() -> SdkWorkspace:
        return SdkWorkspace(
            workspace.subscription_id,
            workspace.resource_group,
            workspace.name,
            auth=_Authentication(credential),
            _cloud=cloud.name,
        )

    sdk_workspace = deadline.call(
        f"Azure Resource Manager at {cloud.arm}",
        lambda: _explained(opened, asked),
        TIMEOUT_REMEDY,
    )
    uri: str = deadline.call(
        f"the discovery service of the workspace '{workspace.name}'",
        lambda: _explained(sdk_workspace.get_mlflow_tracking_uri, asked),
        TIMEOUT_REMEDY,
    )
    # azureml-core has bound its own authentication, which a later endpoint would replace.
    bind(uri, workspace, credential, session)
    return uri


def _explained(call: Callable[[], Any], asked: Asked) -> Any:
    """Return what azureml-core returns, or raise its error as one sentence."""
    try:
        return call()
    except Exception as error:
        logger.debug("azureml-core returned no tracking URI.", exc_info=True)
        # Not chained: its messages list the tenant's subscriptions.
        raise explain(error, asked) from None


class _Authentication(ArmTokenAuthentication):  # type: ignore[misc]  # the package has no types
    """The credential in the form that azureml-core wants.

    Its own classes may ask a person to sign in, want azure-cli in the same environment, or do not
    know workload identities.
    """

    def __init__(self, credential: Credential) -> None:
        super().__init__(None, cloud=credential.cloud.name)
        self._credential = credential

    def _get_arm_token(self) -> str:
        token: str = self._credential.get_token(self._credential.cloud.scope).token
        return token
