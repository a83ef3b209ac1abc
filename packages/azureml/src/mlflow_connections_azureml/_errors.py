"""Explain errors of Azure's clients and services in one sentence.

A service's text is never repeated: azureml-core lists every subscription of the tenant in one
message, and dumps JSON in others. A sentence contains only the HTTP status, Azure's own code and
the host.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from mlflow_connections import (
    AccessError,
    ConnectionsError,
    InvalidOptionError,
    UnreachableError,
)

from ._options import Cloud, Workspace

_AADSTS = r"AADSTS\d+"
# msal keeps no more than this of a response without a token, and of one about a tenant.
_MSAL_STATUS = r"HTTP (?:Error|status): (\d{3})"
# msal's words for a response about a tenant that has another status or form than Entra ID's.
_NO_TENANT = "OIDC Discovery"
# Any other text in the place of a code may be a secret, and is not shown.
_CODE = r"\w{1,60}"
NO_CODE = "no code"
"""Stands for Azure's code in a response without one."""
# `az` prints this exception of requests if it has no network.
_CLI_HOST = r"HTTPSConnectionPool\(host='([\w.-]+)'"


class SignIn(NamedTuple):
    """A sign-in, as error messages name it; it contains no secret.

    Attributes:
        identity: The identity, such as `the service principal '…'`.
        cloud: The cloud to sign in to.
        tenant: The chosen tenant, or None.
        cli_seconds: The time limit of the Azure CLI, in seconds.
    """

    identity: str
    cloud: Cloud
    tenant: str | None = None
    cli_seconds: int = 10

    @property
    def login_command(self) -> str:
        """The command that signs a person in for this workspace."""
        tenant = f" --tenant {self.tenant}" if self.tenant else ""
        return f"`az login{tenant} --scope {self.cloud.scope}`"


_SIGN_IN_AGAIN = "sign in again with {login}"
_MFA = "it asks for multi-factor authentication, so " + _SIGN_IN_AGAIN
_DEVICE = "a conditional access policy wants a managed device; ask the administrator of the tenant"

# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
_REFUSALS: dict[str, tuple[type[ConnectionsError], str]] = {
    "AADSTS7000215": (
        AccessError,
        "the client_secret is wrong; use the secret's value, not its id",
    ),
    "AADSTS7000222": (AccessError, "the client_secret has expired; create a new one"),
    "AADSTS7000112": (AccessError, "the application is disabled in the tenant"),
    "AADSTS700016": (
        InvalidOptionError,
        "there is no application with this client_id in the tenant; check client_id and tenant_id",
    ),
    "AADSTS700021": (AccessError, "the token of the workload identity is not trusted"),
    "AADSTS700024": (AccessError, "the token of the workload identity has expired"),
    "AADSTS700213": (AccessError, "no federated credential matches the workload identity"),
    "AADSTS90002": (InvalidOptionError, "there is no such tenant; check tenant_id and 'cloud'"),
    "AADSTS900021": (InvalidOptionError, "the tenant_id is not valid"),
    "AADSTS900023": (InvalidOptionError, "the tenant_id is not valid"),
    "AADSTS500011": (
        AccessError,
        "the tenant does not know Azure Resource Manager; check tenant_id and 'cloud'",
    ),
    # A person's login has expired.
    "AADSTS700082": (AccessError, f"the login expired without use; {_SIGN_IN_AGAIN}"),
    "AADSTS700084": (AccessError, f"the login has expired; {_SIGN_IN_AGAIN}"),
    "AADSTS70043": (AccessError, f"the login has expired by policy; {_SIGN_IN_AGAIN}"),
    "AADSTS50173": (AccessError, f"the password was changed since the login; {_SIGN_IN_AGAIN}"),
    "AADSTS50132": (AccessError, f"the login was revoked; {_SIGN_IN_AGAIN}"),
    # A second factor is required.
    "AADSTS50076": (AccessError, _MFA),
    "AADSTS50078": (AccessError, _MFA),
    "AADSTS50079": (AccessError, _MFA),
    "AADSTS50158": (AccessError, _MFA),
    # The account is in the wrong tenant, or lacks consent.
    "AADSTS50020": (AccessError, "the account does not belong to the tenant; check tenant_id"),
    "AADSTS50034": (AccessError, "the account does not exist in the tenant; check tenant_id"),
    "AADSTS90072": (AccessError, "the account does not exist in the tenant; check tenant_id"),
    "AADSTS50057": (AccessError, "the account is disabled"),
    "AADSTS50105": (AccessError, "the account is not assigned to the application"),
    "AADSTS65001": (AccessError, f"nobody has consented yet; {_SIGN_IN_AGAIN}"),
    # Conditional access applies.
    "AADSTS53000": (AccessError, _DEVICE),
    "AADSTS53001": (AccessError, _DEVICE),
    "AADSTS530003": (AccessError, _DEVICE),
    "AADSTS53003": (AccessError, "a conditional access policy blocks it"),
}


class Asked(NamedTuple):
    """A request about a workspace: its host and its identity. It contains no secret.

    Attributes:
        host: The host of the last request.
        workspace: The workspace.
        identity: The identity, as messages name it.
    """

    host: str
    workspace: Workspace
    identity: str

    @property
    def who(self) -> str:
        """The identity, capitalized for the beginning of a sentence."""
        return f"{self.identity[0].upper()}{self.identity[1:]}"


class ErrorResponse(NamedTuple):
    """An HTTP response that is an error.

    Attributes:
        status: Its HTTP status.
        code: Azure's own code for it.
        host: The host that sent it; empty if unknown.
    """

    status: int
    code: str
    host: str = ""


def explain_sign_in_error(error: BaseException, sign_in: SignIn) -> ConnectionsError:
    """Return the error to raise where azure-identity returned no token."""
    from azure.identity import CredentialUnavailableError

    identity, cloud = sign_in.identity, sign_in.cloud
    text = str(error)
    if (ours := _ours(error)) is not None:
        return ours
    if match := re.search(_AADSTS, text):
        kind, reason = _REFUSALS.get(
            match[0], (AccessError, "look the code up in Entra ID's sign-in logs")
        )
        reason = reason.format(login=sign_in.login_command)
        return kind(f"Microsoft Entra ID refused {identity} ({match[0]}): {reason}.")
    if (host := unreachable_host(error)) is not None:
        return _unreachable(host or cloud.login)
    if match := re.search(_CLI_HOST, text):
        return _unreachable(match[1])
    if (status := sign_in_status(error)) >= 500 or status == 429:
        return UnreachableError(
            f"Microsoft Entra ID at {cloud.login} answered {status} for {identity}. "
            "Try again later."
        )
    # msal omits the number of the error, which only its cause has.
    told = [str(each) for each in chain(error)]
    if "authority configuration" in text and any(re.search(_AADSTS, each) for each in told):
        return InvalidOptionError(
            f"{cloud.login} does not know the tenant of {identity}. Check tenant_id and 'cloud'."
        )
    if _is_not_azures(error) or any(_NO_TENANT in each for each in told):
        return not_from(cloud.login, "Microsoft Entra ID")
    # azure-identity 1.27 uses this text only for a command that did not end in time.
    if "Failed to invoke the Azure CLI" in text:
        return UnreachableError(
            f"The Azure CLI did not answer within {sign_in.cli_seconds} s. Run `az account "
            "get-access-token` to see why, or raise 'timeout' in the connection options."
        )
    if isinstance(error, CredentialUnavailableError):
        return AccessError(f"This machine has no token for {identity}.")
    return AccessError(
        f"There is no token for {identity}: {_cli_state(text)}. Put tenant_id, client_id and "
        f"client_secret into the credentials, run {sign_in.login_command}, or run where a managed "
        "or workload identity is assigned."
    )


def _cli_state(text: str) -> str:
    """Return azure-identity's message about the Azure CLI, the last of its usual methods."""
    if "Azure CLI not found on path" in text:
        return "no credential is set, and the Azure CLI is not on the PATH"
    if "az login" in text:
        return "no credential is set, and nobody is signed in to the Azure CLI"
    return "no credential that azure-identity tried could sign in"


def explain(error: BaseException, asked: Asked) -> ConnectionsError:
    """Return the error to raise if the workspace could not be opened although there is a token."""
    if (ours := _ours(error)) is not None:
        return ours
    if (host := unreachable_host(error)) is not None:
        return _unreachable(host or asked.host)
    if (response := response_behind(error)) is not None:
        return explain_response(response, asked)
    if _is_not_azures(error):
        return not_from(asked.host, "Azure Resource Manager")
    # azureml-core's own check, by the list of the tenant's subscriptions.
    if type(error).__name__ == "UserErrorException" and "subscription" in str(error):
        return _no_subscription(asked)
    return ConnectionsError(
        f"The workspace '{asked.workspace.name}' could not be opened: {type(error).__name__}. "
        "Its message is in the log of 'mlflow_connections_azureml' at level DEBUG."
    )


def explain_response(response: ErrorResponse, asked: Asked) -> ConnectionsError:
    """Return the error to raise for an error response of ARM, or of the workspace's own host."""
    status, code, host = response
    workspace, identity = asked.workspace, asked.identity
    if status == 403 and ".api." in host:
        return private_link(workspace)
    if code == NO_CODE and status < 500 and status != 429:
        # Azure Resource Manager names a code in each of its own.
        return not_from(host or asked.host, "Azure Resource Manager")
    if status == 401:
        return AccessError(
            f"Azure did not accept the token of {identity} for subscription "
            f"'{workspace.subscription_id}' ({code}). Check tenant_id, that it is the "
            "subscription's tenant, and 'cloud'."
        )
    if status == 403:
        return AccessError(
            f"{asked.who} may not read the workspace '{workspace.name}' "
            f"({code}). Give it the role 'AzureML Data Scientist' there."
        )
    if status == 404 and code == "SubscriptionNotFound":
        return _no_subscription(asked)
    if status == 404 and code == "ResourceGroupNotFound":
        return InvalidOptionError(
            f"There is no resource group '{workspace.resource_group}' in subscription "
            f"'{workspace.subscription_id}'. Check 'resource_group'."
        )
    if status == 404:
        return InvalidOptionError(
            f"There is no workspace '{workspace.name}' in resource group "
            f"'{workspace.resource_group}'. Check 'workspace_name'."
        )
    if status == 429:
        return UnreachableError("Azure Resource Manager throttles this identity. Try again later.")
    if status >= 500:
        return UnreachableError(
            f"Azure answered {status} ({code}) when asked for the workspace '{workspace.name}'. "
            "Try again later, and see https://status.azure.com."
        )
    return ConnectionsError(
        f"Azure refused the request for the workspace '{workspace.name}' ({status}, {code}). "
        "Check 'subscription_id', 'resource_group' and 'workspace_name'."
    )


def not_from(host: str, service: str) -> ConnectionsError:
    """Return the error for a response that a proxy or a login page sent in a service's place."""
    return UnreachableError(
        f"The response of {host} does not come from {service}. Check HTTPS_PROXY, and whether a proxy or a "
        "login page answers in its place."
    )


def private_link(workspace: Workspace) -> ConnectionsError:
    """Return the error for a workspace that responds only within its own network."""
    return AccessError(
        f"The workspace '{workspace.name}' refuses the public network: it has a private link. Run "
        "inside its virtual network or through a VPN, or allow public access to it."
    )


def _no_subscription(asked: Asked) -> ConnectionsError:
    return AccessError(
        f"{asked.who} cannot see subscription '{asked.workspace.subscription_id}'. Check "
        "'subscription_id', which is an id and not a name, check the tenant, and give the identity a "
        "role on the workspace."
    )


def _unreachable(host: str) -> ConnectionsError:
    return UnreachableError(
        f"{host} cannot be reached. Check the network, HTTPS_PROXY, REQUESTS_CA_BUNDLE and the "
        "firewall; a workspace with a private link is reached only from its own network."
    )


def _ours(error: BaseException) -> ConnectionsError | None:
    return next((e for e in chain(error) if isinstance(e, ConnectionsError)), None)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes: clients wrap the original error several times."""
    seen: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        current = todo.pop(0)
        if not isinstance(current, BaseException) or any(current is s for s in seen):
            continue
        seen.append(current)
        yield current
        todo += [current.__cause__, current.__context__, getattr(current, "inner_exception", None)]


def unreachable_host(error: BaseException) -> str | None:
    """Return the host that did not respond in full: empty if it is unknown, None if all responded."""
    from urllib.parse import urlsplit

    import requests
    from azure.core.exceptions import (
        IncompleteReadError,
        ServiceRequestError,
        ServiceResponseError,
    )

    kinds = (
        *(IncompleteReadError, ServiceRequestError, ServiceResponseError),
        *(requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError),
    )
    failures = [e for e in chain(error) if isinstance(e, kinds)]
    if not failures:
        return None
    requested = (getattr(getattr(e, "request", None), "url", None) for e in failures)
    return next((urlsplit(url).hostname or "" for url in requested if isinstance(url, str)), "")


def _is_not_azures(error: BaseException) -> bool:
    """Return whether a client could not read a response as JSON, as all of Azure's are."""
    from json import JSONDecodeError

    # The second is msrest's, of which azureml-core has a copy.
    return any(
        isinstance(each, JSONDecodeError) or type(each).__name__ == "DeserializationError"
        for each in chain(error)
    )


def sign_in_status(error: BaseException) -> int:
    """Return the status of Entra ID's response behind an error, or 0 if there is none."""
    if (response := response_behind(error)) is not None:
        return response.status
    matches = (re.search(_MSAL_STATUS, str(each)) for each in chain(error))
    return next((int(match[1]) for match in matches if match), 0)


def response_behind(error: BaseException) -> ErrorResponse | None:
    """Return the HTTP response behind an error of azure-core, msrest or requests, or None."""
    for each in chain(error):
        response = getattr(each, "response", None)
        status = getattr(response, "status_code", None)
        if isinstance(status, int) and status >= 400:
            return error_response(response)
    return None


def error_response(response: Any) -> ErrorResponse:
    """Return the parts of an error response, as requests or azure-core received it."""
    from urllib.parse import urlsplit

    try:
        body = response.json() if hasattr(response, "json") else None
    except ValueError:
        body = None
    error = body.get("error") if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    url = getattr(getattr(response, "request", None), "url", None) or ""
    if not isinstance(code, str) or not re.fullmatch(_CODE, code):
        # A gateway's page has none. Some clients keep no text at all.
        code = NO_CODE if hasattr(response, "json") else "unknown code"
    return ErrorResponse(response.status_code, code, urlsplit(url).hostname or "")
