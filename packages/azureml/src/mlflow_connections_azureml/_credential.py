"""The one credential of both SDKs and of azureml-mlflow: azure-identity's, without surprises."""

import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections.secrets import get_logger

from ._options import Cloud, cloud_of, seconds_for

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential

    from ._errors import SignIn

logger = get_logger(__name__)

# azure-identity's default of ten retries takes minutes where a host refuses the connection.
_HTTP = {"retry_total": 3, "connection_timeout": 10}

_REFRESH_BEFORE = 300.0
"""Seconds before its end from which on a token is renewed, as azure-core's own policy does."""

# The form of azure-identity's own check: an id, or a domain.
_TENANT = r"[\w.-]+"


class Credential:
    """A credential of azure-identity that keeps its tokens and whose errors are one sentence.

    azure-identity caches no token of the Azure CLI or another developer tool: it starts a process
    for each request.

    Attributes:
        cloud: The cloud whose tokens it fetches.
        identity: The signed-in identity as messages name it; never a secret.
    """

    def __init__(
        self, credential: "TokenCredential", sign_in: "SignIn", tenant: str | None = None
    ) -> None:
        """Wrap a credential.

        Args:
            credential: A credential of azure-identity.
            sign_in: What the messages of its errors say.
            tenant: The tenant to ask for where the caller names none.
        """
        self.cloud: Cloud = sign_in.cloud
        self.identity = sign_in.identity
        self._sign_in = sign_in
        self._credential = credential
        self._tenant = tenant
        self._tokens: dict[tuple[tuple[str, ...], str | None], AccessToken] = {}
        # Held while a token is fetched: threads that want the same token start `az` once.
        self._lock = threading.Lock()

    def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        **options: Any,
    ) -> "AccessToken":
        """Return a cached token, or fetch one, as azure-core's protocol says.

        Raises:
            AccessError: The identity was refused, or there is none.
            InvalidOptionError: There is no such tenant or application.
            UnreachableError: Microsoft Entra ID or the Azure CLI did not answer.
        """
        tenant = tenant_id or self._tenant
        with self._lock:
            token = self._tokens.get((scopes, tenant))
            # A claims challenge says that the cached token no longer suffices.
            if claims or token is None or token.expires_on - time.time() < _REFRESH_BEFORE:
                token = self._fetch(*scopes, claims=claims, tenant_id=tenant, **options)
                self._tokens[scopes, tenant] = token
            return token

    def _fetch(self, *scopes: str, **options: Any) -> "AccessToken":
        try:
            with _quiet():
                return self._credential.get_token(
                    *scopes, **{name: value for name, value in options.items() if value is not None}
                )
        except Exception as error:
            logger.debug("azure-identity returned no token.", exc_info=True)
            # Not chained: a dozen lines on every credential that was tried say no more.
            from ._errors import explain_sign_in_error

            raise explain_sign_in_error(error, self._sign_in) from None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Credential":
        # azureml-core copies its authentication objects, and a lock cannot be copied.
        return self

    def __repr__(self) -> str:
        return f"Credential({self.identity})"


_ours: ContextVar[bool] = ContextVar("mlflow_connections_azureml_signs_in", default=False)


class _DebugOnly(logging.Filter):
    """Turns azure-identity's warnings about a sign-in of ours into debug messages of our logger.

    The error says in one sentence what they say in twelve lines.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not _ours.get() or record.levelno < logging.WARNING:
            return True
        logger.debug("%s: %s", record.name, record.getMessage())
        return False


_debug_only = _DebugOnly()


@contextmanager
def _quiet() -> Iterator[None]:
    # A filter sees the records of its own logger alone, not those of the loggers below it.
    for name, known in list(logging.root.manager.loggerDict.items()):
        if name.startswith(("azure.identity", "msal")) and isinstance(known, logging.Logger):
            known.addFilter(_debug_only)  # once: a second time changes nothing
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)


def credential_for(values: dict[str, Any]) -> Credential:
    """Create the credential that the connection's values ask for. Nothing is sent yet.

    Raises:
        MissingOptionError: A part of the service principal is missing.
        InvalidOptionError: The tenant is neither an id nor a domain, or AZURE_AUTHORITY_HOST is
            not an address.
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
    sign_in = SignIn(identity, cloud, tenant, max(int(seconds_for(values)) - 1, 1))
    if values["client_secret"] is not None:
        from azure.identity import ClientSecretCredential

        secret = ClientSecretCredential(
            values["tenant_id"],
            values["client_id"],
            values["client_secret"],
            authority=cloud.login,
            **_HTTP,
        )
        return Credential(secret, sign_in)
    if values["managed_identity_client_id"] is not None:
        from azure.identity import ManagedIdentityCredential

        managed = ManagedIdentityCredential(client_id=values["managed_identity_client_id"])
        return Credential(managed, sign_in)
    return Credential(_found_on_this_machine(values, sign_in), sign_in, tenant)


def _found_on_this_machine(values: dict[str, Any], sign_in: "SignIn") -> "TokenCredential":
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
        # The default of 10 s is less than `az` needs on a slow disk.
        process_timeout=sign_in.cli_seconds,
        # The tenant of the connection reaches every credential of the chain, see `get_token`.
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


def refuse_half_a_service_principal(values: dict[str, Any]) -> None:
    """Refuse a service principal without all of its three values.

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
