"""The keyword `azureml`. Cheap to import: Azure's packages are imported when they are used."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_connections import (
    Connection,
    InvalidOptionError,
    MissingDependencyError,
    MissingOptionError,
    Option,
)

from ._clouds import CLOUD_VARIABLE
from ._job import job_uri, warn_of_another_workspace
from ._options import OPTIONS, SECONDS, SECONDS_INTERACTIVE, Workspace


class AzureMLConnection(Connection):
    """Gives the tracking URI of a workspace, with the credential for it bound in this process.

    The credential is the first that applies: the service principal of the credentials; the
    user-assigned managed identity of the options; else what azure-identity finds in the
    environment, a workload identity, a managed identity, or the login of the Azure CLI or another
    developer tool. A person is asked to sign in only where `interactive` is true.
    """

    def __init__(self) -> None:
        self._last: tuple[dict[str, Any], str] | None = None

    @property
    def declared(self) -> Sequence[Option]:  # type: ignore[override]  # depends on where it runs
        """The options; inside an AzureML job none is required, since the job brings a URI."""
        if job_uri() is None:
            return OPTIONS
        return tuple(option._replace(required=False) for option in OPTIONS)

    def tracking_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Ask Azure for the workspace's tracking URI, and bind the credential for it.

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
        _refuse_half_a_service_principal(values)
        uri = _resolve(values)
        self._last = values, uri
        return uri

    def registry_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Give the workspace's URI again: its registry answers there too."""
        # Asked for right after the tracking URI; the same question need not go to Azure twice.
        if self._last is not None and self._last[0] == self.values(credentials, options):
            return self._last[1]
        return self.tracking_uri(credentials, options)

    def environment(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, str]:
        """Give the cloud's name, and the identity too where `share_with_workers` is true."""
        if job_uri():
            return {}
        from ._worker import MARK, MARK_VALUE

        values = self.values(credentials, options)
        # azureml-mlflow would ask ARM for a list of clouds, and take the first.
        environment = {CLOUD_VARIABLE: values["cloud"]}
        if not values["interactive"]:
            environment[MARK] = MARK_VALUE
        if values["share_with_workers"]:
            environment |= _shared(values)
        return environment


def _resolve(values: dict[str, Any]) -> str:
    from ._deadline import Deadline

    try:
        if values["sdk"] == "arm":
            from ._arm import tracking_uri
        else:
            from ._v1 import tracking_uri
    except ImportError as error:
        raise MissingDependencyError(
            f"`sdk: {values['sdk']}` needs a package that cannot be imported: {error}. "
            "Run: pip install --upgrade mlflow-connections-azureml."
        ) from error
    seconds = values["timeout"]
    if seconds is None:
        seconds = SECONDS_INTERACTIVE if values["interactive"] else SECONDS
    if seconds <= 0:
        raise InvalidOptionError(f"'timeout' must be more than 0 seconds, not {seconds:g}.")
    deadline = Deadline(seconds)
    return deadline.run(lambda: tracking_uri(values, deadline))


def _configured(values: dict[str, Any]) -> Workspace | None:
    workspace = Workspace.of(values)
    return workspace if all(workspace) else None


def _refuse_half_a_service_principal(values: dict[str, Any]) -> None:
    if values["client_secret"] is not None:
        missing = [name for name in ("tenant_id", "client_id") if values[name] is None]
    elif values["client_id"] is not None and not os.environ.get("AZURE_FEDERATED_TOKEN_FILE"):
        missing = ["client_secret"]
    else:
        return
    if missing:
        raise MissingOptionError(
            f"The service principal lacks {' and '.join(map(repr, missing))}: it needs tenant_id, "
            "client_id and client_secret in the credentials, or in the variables "
            "AZUREML_SERVICE_PRINCIPAL_TENANT_ID, AZUREML_SERVICE_PRINCIPAL_ID and "
            "AZUREML_SERVICE_PRINCIPAL_PASSWORD."
        )


def _shared(values: dict[str, Any]) -> dict[str, str]:
    """Give what azure-identity reads in a process that knows nothing else."""
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
