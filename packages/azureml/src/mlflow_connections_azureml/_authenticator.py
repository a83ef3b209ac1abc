"""The authenticator of a workspace, and how azureml-mlflow finds it.

azureml-mlflow sends its own requests, and keeps one credential per tracking URI and process.
Without one it tries a browser, then a device code, and waits for a person. For each workspace in
force, its table therefore holds an object that gets the authenticator of that URI from core:

- In the process that resolved the connection, the authenticator belongs to the block of `use` in
  force. Outside of any block, the one that was resolved last is used, since plugins of kedro-mlflow
  set the URI themselves.
- A child process rebuilds it from its parent's description: an identity without a secret signs in
  again, and the parent serves tokens for one with a secret. MLflow imports this module in every
  process as a provider of run tags, which adds none: no other hook runs before the first store.
- In an AzureML job there is none. azureml-mlflow reads the job's own token.
"""

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlflow_connections import AccessError, ConnectionsError
from mlflow_connections.authentication import (
    Authenticator,
    authenticator_of,
    from_parent,
    origins_in_force,
)
from mlflow_connections.headers import FromParent, Headers, HeaderSource, Renewing
from mlflow_connections.secrets import get_logger

from ._job import job_uri
from ._mlflow import add_service_context, remove_service_context
from ._options import Workspace, workspace_of
from ._tokens import HEADER, PREFIX, SECRET_VARIABLE, AzureTokens

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

logger = get_logger(__name__)

# Valid in every cloud, also under the older name management.core.windows.net.
_ARM_HOST = "management."


class AzureMLAuthenticator(Authenticator):
    """One identity's tokens for a workspace, which azureml-mlflow asks for.

    Args:
        uri: The workspace's tracking URI; its query is ignored.
        source: Fetches tokens.
        share: Whether the user allows the secret in the environment of child processes.

    Attributes:
        uri: The tracking URI as it was given; `origin` is the URI without its query.
    """

    opener = "mlflow_connections_azureml:open_authenticator"
    secret_variables = (SECRET_VARIABLE,)

    def __init__(self, uri: str, source: HeaderSource | Renewing, *, share: bool = False) -> None:
        super().__init__(uri.partition("?")[0], source, share=share)  # as azureml-mlflow does
        self.uri = uri
        self._is_offered = False

    def bind(self) -> None:
        """Activate the identity for its URI, now or once MLflow is imported.

        Raises:
            MissingDependencyError: azureml-mlflow cannot be imported.
        """
        if self._is_offered:
            self._is_offered = False
            _offers[self] -= 1
            if not _offers[self]:
                del _offers[self]
        super().bind()
        _add_if_imported(self.origin)

    def unbind(self) -> None:
        """Deactivate the identity; azureml-mlflow forgets a URI without any identity."""
        super().unbind()
        if _answering(self.origin) is None:
            remove_service_context(self.origin)

    def offer(self) -> None:
        """Use the identity outside of blocks, for code that sets the URI itself."""
        times = _offers.pop(self, 0)
        _offers[self] = times + 1
        self._is_offered = True
        _add_if_imported(self.origin)

    def describe_for_shell(self) -> Mapping[str, Any] | None:
        """Return the description without the secret if the secret is in its variable."""
        if isinstance(self.source, AzureTokens) and self.source.is_secret_in_variable():
            return self.source.describe_public()
        return super().describe_for_shell()


_offers: dict[AzureMLAuthenticator, int] = {}
"""Authenticators that no block uses, with the number of times each was resolved; the newest is last."""


def open_authenticator(origin: str, description: Mapping[str, Any]) -> AzureMLAuthenticator:
    """Rebuild an authenticator in a child process from its parent's description."""
    if "agent" in description:
        return AzureMLAuthenticator(origin, FromParent(description["agent"], origin))
    return AzureMLAuthenticator(origin, AzureTokens.rebuilt(description))


def inherited(workspace: Workspace) -> AzureMLAuthenticator | None:
    """Return a workspace's authenticator served by the parent process, or None if the parent does not serve it."""
    for source in from_parent(AzureMLAuthenticator.opener):
        if workspace.resource_id.lower() in source.origin.lower():
            return AzureMLAuthenticator(source.origin, source)
    return None


class WorkspaceCredential:
    """The credential that azureml-mlflow holds for a URI; it delegates to the authenticator in force.

    Args:
        origin: The URI, without a query.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin

    def get_token(self, *scopes: str, claims: str | None = None, **_options: Any) -> "AccessToken":
        """Return a token for Azure Resource Manager, as azure-core's protocol requires.

        Args:
            scopes: The scope of Azure Resource Manager, which all clients of AzureML request.
            claims: Any text means that the current token is no longer sufficient.

        Raises:
            AccessError: No identity is in force for this URI, or the scope belongs to another
                service.
        """
        refuse_other_scopes(scopes)
        authenticator = _answering(self._origin)
        if authenticator is None:
            raise AccessError(
                "The block that signed in to this AzureML workspace has ended. Resolve `azureml` again."
            )
        rejected = authenticator.headers().values if claims else None
        return access_token(authenticator.headers(rejected))

    def __deepcopy__(self, memo: dict[int, Any]) -> "WorkspaceCredential":
        # azureml-core copies its authentication objects.
        return self


def refuse_other_scopes(scopes: tuple[str, ...]) -> None:
    """Refuse to return the workspace's token for another service.

    Raises:
        AccessError: A scope does not belong to Azure Resource Manager.
    """
    for scope in scopes:
        host = urlsplit(scope).hostname
        if host and not host.startswith(_ARM_HOST):
            raise AccessError(
                f"The sign-in of this AzureML workspace has tokens for Azure Resource Manager alone, not for {host}: "
                "use a credential of azure-identity for it."
            )


def access_token(headers: Headers) -> "AccessToken":
    """Return headers in the form of azure-core."""
    from azure.core.credentials import AccessToken

    token = headers.values[HEADER].removeprefix(PREFIX)
    return AccessToken(token, int(time.time() + (headers.lifetime or 0.0)))


def _answering(origin: str) -> Authenticator | None:
    found = authenticator_of(origin)
    # Iterate over a copy: another thread may resolve at the same time.
    return found or next((each for each in reversed([*_offers]) if each.origin == origin), None)


def _add_if_imported(origin: str) -> None:
    # azureml-mlflow costs a second and 25 MB, and MLflow imports it anyway.
    if "mlflow" in sys.modules:
        _add(origin)


def _add(origin: str) -> None:
    if (workspace := workspace_of(origin)) is not None:
        add_service_context(origin, workspace, WorkspaceCredential(origin))


class CredentialBinder:
    """A run-context provider of MLflow without tags. MLflow creates it when it is imported."""

    def __init__(self) -> None:
        if job_uri() is not None:
            return
        try:
            known = origins_in_force(AzureMLAuthenticator.opener)
        except ConnectionsError as error:  # an error must not break `import mlflow`
            logger.debug("The parent's description cannot be read: %s", error)
            known = []
        for origin in {*known, *(each.origin for each in _offers)}:
            _add(origin)

    def in_context(self) -> bool:
        """Return False: this provider adds nothing to a run."""
        return False

    def tags(self) -> dict[str, str]:
        """Return no tags."""
        return {}
