"""The connection behind the keyword `azureml`.

Importing it is cheap: Azure's packages are imported on first use.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_connections import Connection, MissingDependencyError, MissingOptionError, Option
from mlflow_connections.secrets import masked

from ._job import job_uri, warn_of_another_workspace
from ._options import (
    CLOUD_VARIABLE,
    NETWORK_REMEDY,
    OPTIONS,
    TIMEOUT_REMEDY,
    Workspace,
    given_uri,
    is_uri_of,
    options_here,
    seconds_for,
)

if TYPE_CHECKING:
    from mlflow_connections.headers import Renewing

    from ._authenticator import AzureMLAuthenticator
    from ._tokens import AzureTokens


class AzureMLConnection(Connection):
    """The tracking URI of a workspace, with a credential bound to it in this process.

    The credential is the first that applies: the service principal of the credentials; the
    user-assigned managed identity of the options; then the credential that azure-identity finds:
    the environment's, a workload identity, a managed identity, or the login of the Azure CLI or
    another developer tool. A person is prompted to sign in only if `interactive` is true.
    """

    def __init__(self) -> None:
        self._resolved: dict[str, AzureMLAuthenticator] = {}

    @property
    def declared(self) -> Sequence[Option]:  # type: ignore[override]  # depends on the process
        """Return the options, with the defaults that this process provides.

        A config.json fills in the workspace. In an AzureML job no option is required: the job
        provides a URI.
        """
        if job_uri() is None:
            return options_here()
        return tuple(option._replace(required=False) for option in OPTIONS)

    def values(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """Read all declared options, with surrounding white space removed.

        No ID, name or secret of Azure contains any, and a secret read from a file often ends in a
        newline.

        Raises:
            MissingOptionError: Required options are missing; the message names all of them.
            InvalidOptionError: A value has the wrong type or is none of the choices.
        """
        values = super().values(credentials, options)
        return {
            name: (value.strip() or None) if isinstance(value, str) else value
            for name, value in values.items()
        }

    def tracking_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Fetch the workspace's tracking URI from Azure, and bind the credential to it.

        Azure is not asked if `workspace_uri` is given; the credential signs in on first use then.

        Raises:
            MissingOptionError: A part of the workspace's name or of the service principal is
                missing.
            InvalidOptionError: The tenant, subscription, group or workspace does not exist, or
                `workspace_uri` belongs to another workspace.
            AccessError: The credential is missing, was refused, or lacks permission.
            UnreachableError: A service of Azure did not respond, or not in time.
            MissingDependencyError: azureml-core or azureml-mlflow cannot be imported.
        """
        values = self.values(credentials, options)
        if uri := job_uri():
            warn_of_another_workspace(uri, _configured(values))
            return uri
        from ._authenticator import inherited
        from ._tokens import refuse_half_a_service_principal, session_of

        session = session_of(values)
        try:
            refuse_half_a_service_principal(values)
        except MissingOptionError:
            # Under `mlflow-connections run` the secret stays with the parent.
            authenticator = inherited(Workspace.of(values))
            if authenticator is None:
                raise
        else:
            authenticator = _signed_in(values)
        self._resolved[session] = authenticator
        authenticator.offer()
        return authenticator.uri

    def registry_uri(self, credentials: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """Return the workspace's URI, which also serves its registry."""
        # Core calls this right after `tracking_uri`; the request is not sent twice.
        from ._tokens import session_of

        found = self._resolved.get(session_of(self.values(credentials, options)))
        return self.tracking_uri(credentials, options) if found is None else found.uri

    def environment(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, str]:
        """Return the cloud's name."""
        if job_uri():
            return {}
        # Without the name azureml-mlflow requests a list of clouds from ARM, and takes the first.
        return {CLOUD_VARIABLE: self.values(credentials, options)["cloud"]}

    def binder(
        self, credentials: Mapping[str, Any], options: Mapping[str, Any]
    ) -> "AzureMLAuthenticator | None":
        """Return the authenticator of the workspace, which a block activates; None in a job."""
        if job_uri():
            return None
        from ._tokens import session_of

        return self._resolved.get(session_of(self.values(credentials, options)))


def _signed_in(values: dict[str, Any]) -> "AzureMLAuthenticator":
    """Fetch the workspace's URI, unless the options give it, and return its authenticator."""
    from mlflow_connections.headers import Renewing
    from mlflow_connections.last_known import fetched

    from ._authenticator import AzureMLAuthenticator
    from ._tokens import AzureTokens

    uri = given_uri(values)
    tokens = AzureTokens(values)
    renewing = Renewing(tokens)
    workspace = Workspace.of(values)

    def fetch(seconds: float | None) -> str:
        # A person may take longer to sign in than any service.
        most = None if values["interactive"] else seconds
        return _fetched(values, tokens, renewing, most)

    if uri is None:
        key = f"azureml {tokens.cloud.name} {workspace.resource_id}".lower()
        uri = fetched(
            *(key, f"the workspace '{workspace.name}'", fetch),
            lambda known: is_uri_of(workspace, known),
            "This machine has not used the workspace before: set 'workspace_uri' to start without Azure.",
        )
    return AzureMLAuthenticator(uri, renewing, share=values["share_with_workers"])


def _fetched(
    values: dict[str, Any], tokens: "AzureTokens", renewing: "Renewing", most: float | None
) -> str:
    """Sign in, and fetch the workspace's URI.

    Args:
        values: The connection's values.
        tokens: The identity that signs in.
        renewing: The identity's tokens, kept valid.
        most: The longest wait in seconds if it is shorter than the options'. Imports do not count.
    """
    from mlflow_connections.deadline import Deadline

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
    seconds, remedy = seconds_for(values), TIMEOUT_REMEDY
    if most is not None and most < seconds:
        seconds, remedy = most, NETWORK_REMEDY
    return tracking_uri(values, tokens, renewing, Deadline(seconds, remedy))


def _configured(values: dict[str, Any]) -> Workspace | None:
    workspace = Workspace.of(values)
    return workspace if all(workspace) else None
