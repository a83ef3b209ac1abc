"""Binding: the credential that azureml-mlflow uses for a tracking URI, in each kind of process.

azureml-mlflow keeps one credential for each URI and process. Without one it tries a browser, then a
device code, and waits for a person. So this module puts a credential of its own there:

- In the process that resolved, it is the credential of the endpoint in force. Two endpoints of one
  workspace have one URI, so each has a `Binding`, which a block of `use` puts in force and takes
  out of force again. Outside of any block the credential that was resolved last answers.
- In a process that inherits the URI, a spawned worker or `mlflow-connections run azureml`, it is a
  credential that signs in without a person. MLflow imports this module in every process, as a
  provider of run tags that has none: there is no other way in before the first store.
- In an AzureML job it is the job's own token, which azureml-mlflow reads by itself.
"""

import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from mlflow_connections import AccessError, MissingDependencyError
from mlflow_connections.secrets import get_logger, masked

from ._credential import Credential, credential_for
from ._options import CLOUD_VARIABLE, CLOUDS, OPTIONS, Workspace, default_cloud

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

logger = get_logger(__name__)

HEADLESS_VARIABLE = "MLFLOW_CONNECTIONS_AZUREML"
"""Set by the connection for the processes that inherit its URI; no secret."""
HEADLESS = "headless"

RUN_ID_VARIABLE = "AZUREML_RUN_ID"
"""Set in every job, see RunEnvVars in azureml-mlflow's azureml/mlflow/_common/constants.py."""

# By these variables azure-identity chooses an identity; PATH and HOME choose the Azure CLI's.
_IDENTITY_PREFIXES = ("AZURE_", "IDENTITY_", "MSI_")
_IDENTITY_VARIABLES = ("PATH", "HOME", "USERPROFILE")

_RESOURCE_ID = (
    r"/subscriptions/([^/]+)/resourceGroups/([^/]+)"
    r"/providers/Microsoft\.MachineLearningServices/workspaces/([^/?]+)"
)

_salt = os.urandom(16)


def session_of(values: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> str:
    """Return the name of a sign-in session: equal for equal values in an equal environment.

    It is a keyed hash whose key never leaves the process, so it reveals nothing.
    """
    from hashlib import blake2b  # nobody who only imports this module pays for it

    environ = os.environ if environ is None else environ
    around = {
        name: value
        for name, value in environ.items()
        if name.startswith(_IDENTITY_PREFIXES) or name in _IDENTITY_VARIABLES
    }
    key = repr((sorted(values.items()), sorted(around.items())))
    return blake2b(key.encode(errors="replace"), digest_size=8, key=_salt).hexdigest()


class TokenSource(Protocol):
    """Anything that azure-core takes for a credential."""

    def get_token(self, *scopes: str, **options: Any) -> "AccessToken":
        """Return a token."""


class BoundCredential:
    """All credentials that were bound to one tracking URI. The one in force answers."""

    def __init__(self) -> None:
        self._credentials: dict[str, TokenSource] = {}
        self._in_force = ""
        # How often each was resolved without a block to take it over, and bound by blocks.
        self._offers: Counter[str] = Counter()
        self._blocks: Counter[str] = Counter()

    @property
    def is_empty(self) -> bool:
        """Whether no credential is left."""
        return not self._credentials

    def offer(self, session: str, credential: TokenSource) -> None:
        """Add a credential as the newest one, which answers outside of blocks."""
        self._add(session, credential)
        self._offers[session] += 1

    def bind(self, session: str, credential: TokenSource, *, is_offered: bool) -> None:
        """Put a credential in force for a block.

        Args:
            session: The name of the sign-in.
            credential: Fetches the tokens.
            is_offered: Whether the block takes over an offer.
        """
        self._add(session, credential)
        self._offers[session] -= is_offered
        self._blocks[session] += 1
        self._in_force = session

    def unbind(self, session: str) -> None:
        """Take a credential out of force, unless an enclosing block of the same sign-in has it.

        It is removed if no code outside of blocks uses it.
        """
        self._blocks[session] -= 1
        if self._blocks[session] > 0:
            return
        self._in_force = ""
        if self._offers[session] <= 0:
            self._credentials.pop(session, None)

    def _add(self, session: str, credential: TokenSource) -> None:
        self._credentials.pop(session, None)
        self._credentials[session] = credential

    def get_token(self, *scopes: str, **options: Any) -> "AccessToken":
        """Return a token of the credential in force.

        Raises:
            AccessError: All endpoints of this URI were left.
        """
        newest = next(reversed(self._credentials.values()), None)
        credential = self._credentials.get(self._in_force, newest)
        if credential is None:
            raise AccessError(
                "The block that signed in to this AzureML workspace has ended. Resolve `azureml` again."
            )
        return credential.get_token(*scopes, **options)

    def __deepcopy__(self, memo: dict[int, Any]) -> "BoundCredential":
        # azureml-core copies its authentication objects.
        return self


_lock = threading.RLock()
_bound: dict[str, BoundCredential] = {}
_pending: dict[str, Workspace] = {}
_newest: dict[str, "Binding"] = {}


class Binding:
    """A credential for one tracking URI, which a block of `use` binds and unbinds.

    Two bindings are equal if they are the same sign-in for the same URI.
    """

    def __init__(
        self, uri: str, workspace: Workspace, credential: TokenSource, session: str
    ) -> None:
        self._uri = uri
        self._workspace = workspace
        self._credential = credential
        self._session = session
        self._is_offered = False

    def bind(self) -> None:
        """Put the credential in force for its URI, now or once MLflow is imported.

        azureml-mlflow costs a second and 25 MB, and MLflow imports it anyway.

        Raises:
            MissingDependencyError: azureml-mlflow cannot be imported.
        """
        with _lock:
            bound = self._bound_credential()
            bound.bind(self._session, self._credential, is_offered=self._is_offered)
            self._is_offered = False
        _bind_if_imported()

    def unbind(self) -> None:
        """Take the credential out of force; azureml-mlflow forgets a URI that has none left."""
        with _lock:
            bound = _bound.get(_key(self._uri))
            if bound is None:
                return
            bound.unbind(self._session)
            if bound.is_empty:
                del _bound[_key(self._uri)]
                _pending.pop(self._uri, None)
                _remove_service_context(self._uri)

    def offer(self) -> None:
        """Bind the credential as the newest of its URI, for code that sets the URI by itself."""
        with _lock:
            self._bound_credential().offer(self._session, self._credential)
            self._is_offered = True
        _bind_if_imported()

    def _bound_credential(self) -> BoundCredential:
        _pending[self._uri] = self._workspace
        return _bound.setdefault(_key(self._uri), BoundCredential())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Binding):
            return NotImplemented
        return (_key(self._uri), self._session) == (_key(other._uri), other._session)

    def __hash__(self) -> int:
        return hash((_key(self._uri), self._session))

    def __repr__(self) -> str:
        return f"Binding({self._workspace.name})"


def bind(uri: str, workspace: Workspace, credential: TokenSource, session: str = "") -> None:
    """Let azureml-mlflow use a credential for a URI, now or once MLflow is imported.

    Args:
        uri: The tracking URI; its query does not matter.
        workspace: The workspace of the URI.
        credential: Fetches the tokens.
        session: The name of the sign-in; empty in a process that inherits its URI.

    Raises:
        MissingDependencyError: azureml-mlflow cannot be imported.
    """
    binding = Binding(uri, workspace, credential, session)
    _newest[session] = binding
    binding.offer()


def binding_of(session: str) -> Binding | None:
    """Return the newest binding of a sign-in, or None if it resolved nothing."""
    return _newest.get(session)


def _bind_if_imported() -> None:
    if "mlflow" in sys.modules:
        bind_pending()


def bind_pending() -> None:
    """Bind the credentials of the URIs that were resolved before MLflow was imported.

    Raises:
        MissingDependencyError: azureml-mlflow cannot be imported.
    """
    while True:
        with _lock:
            if not _pending:
                return
            uri, workspace = _pending.popitem()
            credential = _bound[_key(uri)]
        _add_service_context(uri, workspace, credential)


def is_bound(uri: str) -> bool:
    """Return whether azureml-mlflow has a credential for a URI in this process."""
    from azureml.mlflow._internal.service_context_loader import _AzureMLServiceContextLoader

    return bool(_AzureMLServiceContextLoader.has_service_context(uri))


def _key(uri: str) -> str:
    return uri.partition("?")[0]  # as azureml-mlflow does


def _add_service_context(uri: str, workspace: Workspace, credential: BoundCredential) -> None:
    """Do the work of azureml.mlflow.get_mlflow_tracking_uri_v2, without its import of MLflow."""
    from urllib.parse import urlsplit

    try:
        from azureml.mlflow._internal.service_context_loader import _AzureMLServiceContextLoader
        from azureml.mlflow._internal.utils import convertToServiceContext
    except ImportError as error:
        raise MissingDependencyError(
            f"azureml-mlflow cannot be imported: {error}. Run: pip install azureml-mlflow."
        ) from masked(error)

    context = convertToServiceContext(
        subscription_id=workspace.subscription_id,
        workspace_name=workspace.name,
        resource_group=workspace.resource_group,
        auth=credential,
        host_url=f"https://{urlsplit(uri).netloc}",
    )
    _AzureMLServiceContextLoader.add_service_context(uri, context)


def _remove_service_context(uri: str) -> None:
    loader = sys.modules.get("azureml.mlflow._internal.service_context_loader")
    if loader is not None:
        contexts = loader._AzureMLServiceContextLoader._tracking_uri_to_service_context
        contexts.pop(_key(uri), None)


class CredentialBinder:
    """A run-context provider of MLflow without tags. MLflow creates it when it is imported."""

    def __init__(self) -> None:
        bind_pending()
        bind_inherited(os.environ)

    def in_context(self) -> bool:
        """Return False: this provider adds nothing to a run."""
        return False

    def tags(self) -> dict[str, str]:
        """Return no tags."""
        return {}


def bind_inherited(environ: Mapping[str, str]) -> None:
    """Bind a credential that needs no person to the URIs that a parent process left behind."""
    if environ.get(HEADLESS_VARIABLE) != HEADLESS or job_uri(environ) is not None:
        return
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        uri = environ.get(variable, "")
        if not uri.startswith("azureml://") or (found := re.search(_RESOURCE_ID, uri)) is None:
            continue
        if not is_bound(uri):
            bind(uri, Workspace(*found.groups()), InheritedCredential(environ))


class InheritedCredential:
    """The credential of a process that inherits the tracking URI.

    It reads the variables that the connection reads: AZUREML_SERVICE_PRINCIPAL_* first, then
    whatever azure-identity finds. It is created on first use, since nothing may disturb an
    `import mlflow`.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._created: Credential | None = None
        self._lock = threading.Lock()

    def get_token(self, *scopes: str, **options: Any) -> "AccessToken":
        """Return a token.

        Raises:
            AccessError: There is no credential in this process.
        """
        with self._lock:
            if self._created is None:
                self._created = credential_for(inherited_values(self._environ))
        try:
            return self._created.get_token(*scopes, **options)
        except AccessError as error:
            # Not chained: a traceback of azure-identity's says no more.
            raise AccessError(
                f"{error} This process inherited the tracking URI but no credential: set "
                "AZUREML_SERVICE_PRINCIPAL_TENANT_ID, _ID and _PASSWORD, or "
                "`share_with_workers: true` in the connection options."
            ) from None


def inherited_values(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the connection's values of a process that has nothing but its environment."""
    read = {option.name: option.env and environ.get(option.env, "").strip() for option in OPTIONS}
    values: dict[str, Any] = {name: value or None for name, value in read.items()}
    cloud = environ.get(CLOUD_VARIABLE, "")
    values["cloud"] = cloud if cloud in CLOUDS else default_cloud(environ)
    return values


def job_uri(environ: Mapping[str, str] | None = None) -> str | None:
    """Return the tracking URI of the AzureML job around this process, or None outside of a job."""
    environ = os.environ if environ is None else environ
    uri = environ.get("MLFLOW_TRACKING_URI", "")
    return uri if uri.startswith("azureml://") and environ.get(RUN_ID_VARIABLE) else None


def warn_of_another_workspace(uri: str, configured: Workspace | None) -> None:
    """Warn if the job belongs to another workspace than the configured one."""
    if configured is None or configured.resource_id.lower() in uri.lower():
        return
    logger.warning(
        "This AzureML job keeps its own tracking URI, which does not belong to the workspace '%s' "
        "of the connection's options.",
        configured.name,
    )
