"""What went wrong at Azure, as one sentence of ours.

Nothing of a service's own text is repeated: azureml-core lists every subscription of the tenant in
one message, and dumps JSON in others.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from mlflow_connections import (
    AccessError,
    ConnectionsError,
    InvalidOptionError,
    UnreachableError,
)

from ._clouds import Cloud
from ._options import Workspace

_AADSTS = re.compile(r"AADSTS\d+")

# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
_REFUSALS: dict[str, tuple[type[ConnectionsError], str]] = {
    "AADSTS7000215": (
        AccessError,
        "the client_secret is wrong; use the secret's value, not its id",
    ),
    "AADSTS7000222": (AccessError, "the client_secret has expired; make a new one"),
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
    "AADSTS53003": (AccessError, "a conditional access policy blocks it"),
}


class Answer(NamedTuple):
    """An answer that is an error: its status, and Azure's own code for it."""

    status: int
    code: str


def explain_token_error(error: BaseException, identity: str, cloud: Cloud) -> ConnectionsError:
    """Say why there is no token."""
    from azure.identity import CredentialUnavailableError

    if (ours := _ours(error)) is not None:
        return ours
    if match := _AADSTS.search(str(error)):
        kind, reason = _REFUSALS.get(
            match[0], (AccessError, "look the code up in Entra ID's sign-in logs")
        )
        return kind(f"Microsoft Entra ID refused {identity} ({match[0]}): {reason}.")
    if (host := _unreachable_host(error)) is not None:
        return _unreachable(host or cloud.login)
    if (answer := _answer(error)) is not None and answer.status >= 500:
        return UnreachableError(
            f"Microsoft Entra ID at {cloud.login} answered {answer.status} for {identity}. "
            "Try again later."
        )
    if isinstance(error, CredentialUnavailableError):
        return AccessError(f"There is no token to be had for {identity} on this machine.")
    return AccessError(
        f"No token was given to {identity}. Give tenant_id, client_id and client_secret in the "
        "credentials, run `az login`, or run where a managed or workload identity is assigned."
    )


def explain(error: BaseException, workspace: Workspace, identity: str) -> ConnectionsError:
    """Say why the workspace could not be opened, though there is a token."""
    if (ours := _ours(error)) is not None:
        return ours
    if (host := _unreachable_host(error)) is not None:
        return _unreachable(host or "Azure")
    if (answer := _answer(error)) is not None:
        return explain_answer(answer, workspace, identity)
    if "access to" in str(error) and "subscription" in str(error):
        return _no_subscription(workspace, identity)
    return ConnectionsError(
        f"The workspace '{workspace.name}' could not be opened: {type(error).__name__}. "
        "Its message is in the log of 'mlflow_connections_azureml' at level DEBUG."
    )


def explain_answer(answer: Answer, workspace: Workspace, identity: str) -> ConnectionsError:
    """Say what an error of ARM or of the workspace's own host means."""
    status, code = answer
    if status == 401:
        return AccessError(
            f"Azure did not accept the token of {identity} for subscription "
            f"'{workspace.subscription_id}' ({code}). Check tenant_id, that it is the "
            "subscription's tenant, and 'cloud'."
        )
    if status == 403 and code == "PrivateLink":
        return private_link(workspace)
    if status == 403:
        return AccessError(
            f"{identity[0].upper()}{identity[1:]} may not read the workspace '{workspace.name}' "
            f"({code}). Give it the role 'AzureML Data Scientist' there."
        )
    if status == 404 and code == "SubscriptionNotFound":
        return _no_subscription(workspace, identity)
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
        f"Azure refused the question for the workspace '{workspace.name}' ({status}, {code}). "
        "Check 'subscription_id', 'resource_group' and 'workspace_name'."
    )


def private_link(workspace: Workspace) -> ConnectionsError:
    """Say that the workspace is only to be reached from its own network."""
    return AccessError(
        f"The workspace '{workspace.name}' refuses the public network: it has a private link. Run "
        "inside its virtual network or through a VPN, or allow public access to it."
    )


def _no_subscription(workspace: Workspace, identity: str) -> ConnectionsError:
    return AccessError(
        f"{identity[0].upper()}{identity[1:]} cannot see subscription "
        f"'{workspace.subscription_id}'. Check 'subscription_id' and the tenant, and give the "
        "identity a role on the workspace."
    )


def _unreachable(host: str) -> ConnectionsError:
    return UnreachableError(
        f"{host} cannot be reached. Check the network, HTTPS_PROXY, REQUESTS_CA_BUNDLE and the "
        "firewall; a workspace with a private link is reached only from its own network."
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """Give an error and all that it was raised from: clients wrap the telling one several times."""
    seen: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        current = todo.pop(0)
        if not isinstance(current, BaseException) or any(current is s for s in seen):
            continue
        seen.append(current)
        yield current
        todo += [current.__cause__, current.__context__, getattr(current, "inner_exception", None)]


def _ours(error: BaseException) -> ConnectionsError | None:
    return next((e for e in chain(error) if isinstance(e, ConnectionsError)), None)


def _unreachable_host(error: BaseException) -> str | None:
    """Give the host that could not be talked to; empty where it is not known, None for no such."""
    import requests
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError

    kinds = (ServiceRequestError, ServiceResponseError, requests.ConnectionError, requests.Timeout)
    failures = [e for e in chain(error) if isinstance(e, kinds)]
    if not failures:
        return None
    requested = (getattr(getattr(e, "request", None), "url", None) for e in failures)
    return next((urlsplit(url).hostname or "" for url in requested if isinstance(url, str)), "")


def _answer(error: BaseException) -> Answer | None:
    """Find the HTTP answer behind an error of azure-core, msrest or requests."""
    for each in chain(error):
        response = getattr(each, "response", None)
        status = getattr(response, "status_code", None)
        if isinstance(status, int) and status >= 400:
            return Answer(status, error_code(response))
    return None


def error_code(response: Any) -> str:
    """Give the code within an error of Azure, a gateway's HTML page has none."""
    try:
        body = response.json() if hasattr(response, "json") else None
    except ValueError:
        body = None
    error = body.get("error") if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return str(code) if code else "no code"
