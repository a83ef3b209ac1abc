"""The connection behind the keyword `azureml`.

Cheap to import: Azure's packages are imported when they are used.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_connections import Connection, MissingDependencyError, Option
from mlflow_connections.secrets import masked

from ._credential import refuse_half_a_service_principal
from ._mlflow import (
    HEADLESS,
    HEADLESS_VARIABLE,
    Binding,
    binding_of,
    job_uri,
    session_of,
    warn_of_another_workspace,
)
from ._options import CLOUD_VARIABLE, OPTIONS, Workspace, options_here, seconds_for


class AzureMLConnection(Connection):
    """The tracking URI of a workspace, with a credential bound to it in this process.

    The credential is the first that applies: the service principal of the credentials; the
    user-assigned managed identity of the options; then the credential that azure-identity finds:
    the environment's, a workload identity, a managed identity, or the login of the Azure CLI or
    another developer tool. A person is asked to sign in only if `interactive` is true.
    """

    def __init__(self) -> None:
        self._last: tuple[str, str] | None = None

    @property
    def declared(self) -> Sequence[Option]:  # type: ignore[override]  # depends on the process
        """The options, with the defaults that this process has for them.

        A config.json fills in the workspace. In an AzureML job none is required: the job brings a
        URI.
        """
        if job_uri() is None:
            return options_here()
        return tuple(option._replace(required=False) for option in OPTIONS)

    def values(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """Read all declared options, without white space around a text.

        No id, name or secret of Azure has any, and a secret read from a file often ends in a
        newline.

        Raises:
            MissingOptionError: Required ones are missing; the message names all of them.
            InvalidOptionError: A value has the wrong type or is none of the choices.
        """
        values = super().values(credentials, options)
        return {
            name: (value.strip() or None) if isinstance(value, str) else value
            for name, value in values.items()
        }

    def tracking_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Fetch the workspace's tracking URI from Azure, and bind the credential to it.

        Raises:
            MissingOptionError: A part of the workspace's name or of the service principal is
                missing.
            InvalidOptionError: There is no such tenant, subscription, group or workspace.
            AccessError: The credential was refused, there is none, or it may not do this.
            UnreachableError: A service of Azure did not answer, or not in time.
            MissingDependencyError: azureml-core or azureml-mlflow cannot be imported.
        """
        values = self.values(credentials, options)
        if uri := job_uri():
            warn_of_another_workspace(uri, _configured(values))
            return uri
        refuse_half_a_service_principal(values)
        session = session_of(values)
        uri = _fetch_uri(values, session)
        self._last = session, uri
        return uri

    def registry_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Return the workspace's URI: its registry answers there too."""
        # Core asks for it right after the tracking URI; the same question is not sent twice.
        values = self.values(credentials, options)
        if self._last is not None and self._last[0] == session_of(values):
            return self._last[1]
        return self.tracking_uri(credentials, options)

    def environment(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, str]:
        """Return the cloud's name, and with `share_with_workers` the identity."""
        if job_uri():
            return {}
        values = self.values(credentials, options)
        # Without it azureml-mlflow asks ARM for a list of clouds, and takes the first.
        environment = {CLOUD_VARIABLE: values["cloud"]}
        if not values["interactive"]:
            environment[HEADLESS_VARIABLE] = HEADLESS
        if values["share_with_workers"]:
            environment |= _shared(values)
        return environment

    def binder(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> Binding | None:
        """Return the credential of the workspace, for a block to put in force; None in a job."""
        if job_uri():
            return None
        return binding_of(session_of(self.values(credentials, options)))


def _fetch_uri(values: dict[str, Any], session: str) -> str:
    try:
        if values["sdk"] == "arm":
            from ._arm import tracking_uri
        else:
            from ._v1 import tracking_uri
    except ImportError as error:
        raise MissingDependencyError(
            f"`sdk: {values['sdk']}` needs a package that cannot be imported: {error}. "
            "Run: pip install --upgrade mlflow-connections-azureml."
        ) from masked(error)
    from mlflow_connections.deadline import Deadline

    return tracking_uri(values, session, Deadline(seconds_for(values)))


def _configured(values: dict[str, Any]) -> Workspace | None:
    workspace = Workspace.of(values)
    return workspace if all(workspace) else None


def _shared(values: dict[str, Any]) -> dict[str, str]:
    """Return the variables that azure-identity reads in a process that knows nothing else."""
    if values["client_secret"] is not None:
        names = {
            "AZURE_TENANT_ID": "tenant_id",
            "AZURE_CLIENT_ID": "client_id",
            "AZURE_CLIENT_SECRET": "client_secret",
        }
    elif values["managed_identity_client_id"] is not None:
        names = {"AZURE_CLIENT_ID": "managed_identity_client_id"}
    else:
        return {}
    return {variable: values[name] for variable, name in names.items()}
