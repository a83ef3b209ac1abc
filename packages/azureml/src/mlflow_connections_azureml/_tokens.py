"""Tokens for a workspace from azure-identity, for both SDKs and for azureml-mlflow."""

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mlflow_connections import AccessError, InvalidOptionError, MissingOptionError
from mlflow_connections.headers import Headers, HeaderSource
from mlflow_connections.secrets import get_logger, remember

from ._options import CLOUD_VARIABLE, CLOUDS, OPTIONS, Cloud, cloud_of, default_cloud, seconds_for

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

    from ._errors import SignIn

logger = get_logger(__name__)

HEADER, PREFIX = "Authorization", "Bearer "
"""The key of a token in `Headers`."""
SECRET_VARIABLE = "AZUREML_SERVICE_PRINCIPAL_PASSWORD"  # noqa: S105 - a name
"""azureml-core's own variable for the client secret."""

# azure-identity's defaults take minutes: ten retries if the host refuses connections, and 300 s for a response
# that never comes.
_HTTP = {"retry_total": 3, "connection_timeout": 10, "read_timeout": 15}

_RENEW_BEFORE = 300.0
"""A token is renewed this many seconds before it expires, as in azure-core's own policy."""

# azure-identity selects an identity by these variables; PATH and HOME select the Azure CLI's.
_IDENTITY_PREFIXES = ("AZURE_", "IDENTITY_", "MSI_")
_IDENTITY_VARIABLES = ("PATH", "HOME", "USERPROFILE")

# The values that a child needs to sign in, none of them secret.
_PUBLIC = ("cloud", "tenant_id", "client_id", "managed_identity_client_id", "timeout")

# The pattern of azure-identity's own check: an ID or a domain.
_TENANT = r"[\w.-]+"

_salt = os.urandom(16)


def session_of(values: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> str:
    """Return the name of a sign-in session: equal for equal values in an equal environment.

    It is a keyed hash whose key never leaves the process, so it reveals nothing.
    """
    from hashlib import blake2b  # imported on use: most importers of this module never sign in

    environ = os.environ if environ is None else environ
    around = {
        name: value
        for name, value in environ.items()
        if name.startswith(_IDENTITY_PREFIXES) or name in _IDENTITY_VARIABLES
    }
    key = repr((sorted(values.items()), sorted(around.items())))
    return blake2b(key.encode(errors="replace"), digest_size=8, key=_salt).hexdigest()


class AzureTokens(HeaderSource):
    """Tokens of one identity for Azure Resource Manager, which the workspace accepts as well.

    Its errors are one sentence each. Equal objects are the same sign-in.

    Args:
        values: The connection's values.
        is_inherited: Whether they come from a parent process.

    Raises:
        MissingOptionError: A part of the service principal is missing.
        InvalidOptionError: The tenant is neither an ID nor a domain, or AZURE_AUTHORITY_HOST is not
            an address.
    """

    def __init__(self, values: Mapping[str, Any], *, is_inherited: bool = False) -> None:
        self._values = dict(values)
        self._is_inherited = is_inherited
        self._session = session_of(values)
        self._credential: TokenCredential | None = None
        if not is_inherited:
            _ = self._sign_in

    @classmethod
    def rebuilt(cls, description: Mapping[str, Any]) -> "AzureTokens":
        """Rebuild a parent's sign-in; this process's AZUREML_SERVICE_PRINCIPAL_* fill in omitted values."""
        remember(description.get("client_secret"))
        return cls({**values_of(os.environ), **description}, is_inherited=True)

    @property
    def cloud(self) -> Cloud:
        """The cloud that issues the tokens."""
        return self._sign_in.cloud

    @property
    def identity(self) -> str:
        """The signed-in identity as messages name it; never a secret."""
        return self._sign_in.identity

    @property
    def _sign_in(self) -> "SignIn":
        return sign_in_of(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AzureTokens) and self._session == other._session

    def __hash__(self) -> int:
        return hash(self._session)

    def __repr__(self) -> str:
        """Hide everything: the values hold a secret."""
        return "AzureTokens()"

    def fetch(self, rejected: Mapping[str, str] | None) -> Headers:
        """Fetch a token.

        Raises:
            AccessError: The identity is missing or was refused.
            InvalidOptionError: The tenant or application does not exist.
            UnreachableError: Microsoft Entra ID or the Azure CLI did not respond.
        """
        sign_in = self._sign_in
        # A new credential has no cached token; a person is prompted once.
        is_kept = rejected is None or self._values["interactive"]
        if self._credential is None or not is_kept:
            self._credential = credential_for(self._values, sign_in)
        try:
            with quiet():
                token = self._credential.get_token(sign_in.cloud.scope, **_tenant_of(self._values))
        except Exception as error:
            logger.debug("azure-identity returned no token.", exc_info=True)
            # Not chained: its dozen lines on every attempted credential add nothing.
            from ._errors import explain_sign_in_error

            explained = explain_sign_in_error(error, sign_in)
            if self._is_inherited and isinstance(explained, AccessError):
                explained = AccessError(
                    f"{explained} This process inherited the tracking URI but no credential: set "
                    "AZUREML_SERVICE_PRINCIPAL_TENANT_ID, _ID and _PASSWORD, or "
                    "`share_with_workers: true` in the connection options."
                )
            raise explained from None
        lifetime = token.expires_on - time.time()
        return Headers(
            {HEADER: f"{PREFIX}{token.token}"}, lifetime, max(lifetime - _RENEW_BEFORE, 0.0)
        )

    def describe(self, *, share: bool) -> Mapping[str, Any] | None:
        """Return the values with which another process signs in; None if that needs a secret or a person."""
        if self._values["interactive"]:
            return None
        secret = self._values["client_secret"]
        if secret is None:
            return self.describe_public()
        return {**self.describe_public(), "client_secret": secret} if share else None

    def describe_public(self) -> Mapping[str, Any]:
        """Return the values with which a process that already has any secret signs in."""
        return {name: self._values[name] for name in _PUBLIC if self._values.get(name) is not None}

    def is_secret_in_variable(self) -> bool:
        """Return whether the secret is in the variable that a child would read."""
        secret = self._values["client_secret"]
        return secret is not None and os.environ.get(SECRET_VARIABLE, "").strip() == secret


def values_of(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of a process that has only its environment."""
    read = {option.name: option.env and environ.get(option.env, "").strip() for option in OPTIONS}
    values: dict[str, Any] = {name: value or None for name, value in read.items()}
    cloud = environ.get(CLOUD_VARIABLE, "")
    values["cloud"] = cloud if cloud in CLOUDS else default_cloud(environ)
    return values


_ours: ContextVar[bool] = ContextVar("mlflow_connections_azureml_signs_in", default=False)


class _DebugOnly(logging.Filter):
    """Turns the warnings of Azure's clients about this package's requests into debug messages of its own logger.

    The error says in one sentence what they say in twelve lines.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not _ours.get() or record.levelno < logging.WARNING:
            return True
        logger.debug("%s: %s", record.name, record.getMessage())
        return False


_debug_only = _DebugOnly()


_LOGGERS = ("azure.", "azureml.", "msal.")
# Created in the middle of a request.
_LATE_LOGGERS = ("azure.core.pipeline.transport._requests_basic", "msal.oauth2cli.oauth2")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the loggers of Azure's clients silent in this block; they print tracebacks and whole pages."""
    # A filter sees only the records of its own logger, not those of child loggers.
    manager = logging.root.manager
    known = [name for name in list(manager.loggerDict) if name.startswith(_LOGGERS)]
    for name in (*known, *_LATE_LOGGERS):
        manager.getLogger(name).addFilter(_debug_only)  # adding it again changes nothing
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)


def sign_in_of(values: Mapping[str, Any]) -> "SignIn":
    """Return the identity and the place of a sign-in, without a request.

    Raises:
        MissingOptionError: A part of the service principal is missing.
        InvalidOptionError: The tenant is neither an ID nor a domain, or AZURE_AUTHORITY_HOST is not
            an address.
    """
    refuse_half_a_service_principal(values)
    cloud = cloud_of(values["cloud"], os.environ)
    tenant: str | None = values["tenant_id"]
    if values["client_secret"] is not None:
        identity = f"the service principal '{values['client_id']}'"
    elif values["managed_identity_client_id"] is not None:
        identity = f"the managed identity '{values['managed_identity_client_id']}'"
    else:
        identity = "the Azure login of this machine"
    if tenant is not None and not re.fullmatch(_TENANT, tenant):
        raise InvalidOptionError(f"The tenant_id of {identity} is neither an id nor a domain.")
    from ._errors import SignIn

    # `az` is stopped a second before the deadline, so that the message can name it.
    return SignIn(identity, cloud, tenant, max(int(seconds_for(values)) - 1, 1))


def credential_for(values: Mapping[str, Any], sign_in: "SignIn") -> "TokenCredential":
    """Create the credential that the connection's values select, without a request."""
    if values["client_secret"] is not None:
        from azure.identity import ClientSecretCredential

        return ClientSecretCredential(
            values["tenant_id"],
            values["client_id"],
            values["client_secret"],
            authority=sign_in.cloud.login,
            **_HTTP,
        )
    if values["managed_identity_client_id"] is not None:
        from azure.identity import ManagedIdentityCredential

        return ManagedIdentityCredential(client_id=values["managed_identity_client_id"])
    return _found_on_this_machine(values, sign_in)


def _tenant_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tenant to request, which each credential found on this machine must be given."""
    is_found = values["client_secret"] is None and values["managed_identity_client_id"] is None
    return {"tenant_id": values["tenant_id"]} if is_found and values["tenant_id"] else {}


def _found_on_this_machine(values: Mapping[str, Any], sign_in: "SignIn") -> "TokenCredential":
    from azure.identity import (
        ChainedTokenCredential,
        DefaultAzureCredential,
        DeviceCodeCredential,
        InteractiveBrowserCredential,
    )

    login, tenant = sign_in.cloud.login, sign_in.tenant
    chosen = {}
    if values["client_id"] is not None:
        chosen["workload_identity_client_id"] = values["client_id"]
    if tenant is not None:
        chosen["workload_identity_tenant_id"] = tenant
    headless = DefaultAzureCredential(
        authority=login,
        exclude_interactive_browser_credential=True,
        # The broker may open a window of the operating system.
        exclude_broker_credential=True,
        # azure-identity's default of 10 s is less than `az` needs on a slow disk.
        process_timeout=sign_in.cli_seconds,
        # The tenant of the connection reaches every credential of the chain, see `_tenant_of`.
        additionally_allowed_tenants=["*"],
        **chosen,
        **_HTTP,
    )
    if not values["interactive"]:
        return headless
    asking: dict[str, Any] = {"authority": login, **_HTTP}
    if tenant is not None:
        asking["tenant_id"] = tenant
    return ChainedTokenCredential(
        *headless.credentials,
        InteractiveBrowserCredential(**asking),
        DeviceCodeCredential(**asking),
    )


def refuse_half_a_service_principal(values: Mapping[str, Any]) -> None:
    """Refuse a service principal with fewer than its three values.

    Raises:
        MissingOptionError: Some are given and not all; the message names the others.
    """
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
