"""`sdk: v1`: azureml-core's Workspace returns the URI, as the specification requires.

azureml-core also binds its own authentication to the URI; the authenticator replaces it.
"""

from collections.abc import Callable
from typing import Any

# azureml-core imports this module for the URI. Importing it at the top keeps the import out of the
# time limit.
import mlflow as _mlflow  # noqa: F401
from azureml.core import Workspace as SdkWorkspace
from azureml.core.authentication import ArmTokenAuthentication

from mlflow_connections.deadline import Deadline
from mlflow_connections.headers import Renewing
from mlflow_connections.secrets import get_logger

from ._authenticator import access_token
from ._errors import Asked, explain
from ._options import Workspace
from ._tokens import AzureTokens, quiet

logger = get_logger(__name__)


def tracking_uri(
    values: dict[str, Any],
    tokens: AzureTokens,
    renewing: Renewing,
    deadline: Deadline,
) -> str:
    """Open the workspace with azureml-core, and return its URI.

    Args:
        values: The connection's values.
        tokens: The identity that signs in.
        renewing: The identity's tokens, kept valid.
        deadline: The time limit.
    """
    workspace = Workspace.of(values)
    cloud, identity = tokens.cloud, tokens.identity
    deadline.call(f"the sign-in of {identity} at {cloud.login}", renewing.headers)
    asked = Asked(cloud.arm, workspace, identity)

    def opened() -> SdkWorkspace:
        return SdkWorkspace(
            workspace.subscription_id,
            workspace.resource_group,
            workspace.name,
            auth=_Authentication(renewing, cloud.name),
            _cloud=cloud.name,
        )

    sdk_workspace = deadline.call(
        f"Azure Resource Manager at {cloud.arm}",
        lambda: _explained(opened, asked),
    )
    uri: str = deadline.call(
        f"the discovery service of the workspace '{workspace.name}'",
        lambda: _explained(sdk_workspace.get_mlflow_tracking_uri, asked),
    )
    return uri


def _explained(call: Callable[[], Any], asked: Asked) -> Any:
    """Return azureml-core's result, or raise its error as one sentence."""
    try:
        with quiet():
            return call()
    except Exception as error:
        logger.debug("azureml-core returned no tracking URI.", exc_info=True)
        # Not chained: its messages list the tenant's subscriptions.
        raise explain(error, asked) from None


class _Authentication(ArmTokenAuthentication):  # type: ignore[misc]  # the package has no types
    """Tokens in the form that azureml-core expects.

    Its own classes may prompt a person, need azure-cli in the same environment, or do not support
    workload identities.
    """

    def __init__(self, renewing: Renewing, cloud: str) -> None:
        super().__init__(None, cloud=cloud)
        self._renewing = renewing

    def _get_arm_token(self) -> str:
        return str(access_token(self._renewing.headers()).token)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Authentication":
        # azureml-core copies its authentication objects, and a lock cannot be copied.
        return self
