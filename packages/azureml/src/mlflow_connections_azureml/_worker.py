"""What happens when MLflow is imported: bind what waits, and never ask a person in a worker.

A process that is started by another one, ParallelRunner's spawned worker for one, inherits the
tracking URI but not the credential that is bound to it. azureml-mlflow would then go down a chain
of its own that ends at a browser and a device code. MLflow imports this module in every process,
as a provider of run tags that has none to give; there is no other way in before the first store.
"""

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlflow_connections import AccessError

from ._binding import bind, bind_pending, is_bound
from ._clouds import CLOUD_VARIABLE, CLOUDS
from ._credential import Credential, credential_for
from ._job import job_uri
from ._options import OPTIONS, Workspace

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

MARK = "MLFLOW_CONNECTIONS_AZUREML"
"""Set by the connection for the processes that inherit its URI; no secret."""
MARK_VALUE = "headless"

_RESOURCE_ID = re.compile(
    r"/subscriptions/([^/]+)/resourceGroups/([^/]+)"
    r"/providers/Microsoft\.MachineLearningServices/workspaces/([^/?]+)"
)


class WorkerBinding:
    """A run-context provider of MLflow that never has a tag; it is made when MLflow is imported."""

    def __init__(self) -> None:
        bind_pending()
        bind_inherited(os.environ)

    def in_context(self) -> bool:
        """Say that there is nothing to add to a run."""
        return False

    def tags(self) -> dict[str, str]:
        """Give no tags."""
        return {}


def bind_inherited(environ: Mapping[str, str]) -> None:
    """Bind what signs in without a person to the URIs that a parent process has left behind."""
    if environ.get(MARK) != MARK_VALUE or job_uri(environ) is not None:
        return
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        uri = environ.get(variable, "")
        if not uri.startswith("azureml://") or (found := _RESOURCE_ID.search(uri)) is None:
            continue
        if not is_bound(uri):
            bind(uri, Workspace(*found.groups()), _inherited(environ))


class _Inherited(Credential):
    """What azure-identity finds in a worker, with the cure that is particular to one."""

    def get_token(self, *scopes: str, **options: Any) -> "AccessToken":
        """Give a token.

        Raises:
            AccessError: There is no credential here.
        """
        try:
            return super().get_token(*scopes, **options)
        except AccessError as error:
            raise AccessError(
                f"{error} This process inherited the tracking URI but no credential: set "
                "`share_with_workers: true` in the connection options."
            ) from error


def _inherited(environ: Mapping[str, str]) -> Credential:
    values: dict[str, Any] = {option.name: None for option in OPTIONS}
    cloud = environ.get(CLOUD_VARIABLE, "")
    values["cloud"] = cloud if cloud in CLOUDS else "AzureCloud"
    return _Inherited(_Lazy(values), "the Azure login of this machine", CLOUDS[values["cloud"]])


class _Lazy:
    """Makes the credential on the first use: nothing here may disturb an `import mlflow`."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values
        self._made: Credential | None = None

    def get_token(self, *scopes: str, **options: Any) -> "AccessToken":
        if self._made is None:
            self._made = credential_for(self._values)
        return self._made.get_token(*scopes, **options)
