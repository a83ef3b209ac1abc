"""What went wrong at Azure, as one sentence of ours.

Nothing of a service's own text is repeated: azureml-core lists every subscription of the tenant in
one message, and dumps JSON in others.
"""

import re
from typing import NamedTuple

from mlflow_connections import (
    AccessError,
    ConnectionsError,
    InvalidOptionError,
    UnreachableError,
)

from ._clouds import Cloud
from ._evidence import Answer, answer_behind, chain, login_status, unreachable_host
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


class Asked(NamedTuple):
    """Who was asked about what, for whom; nothing of it is secret.

    Attributes:
        host: The host that was asked last.
        workspace: The workspace.
        identity: How messages call who signs in.
    """

    host: str
    workspace: Workspace
    identity: str

    @property
    def who(self) -> str:
        """The identity at the beginning of a sentence."""
        return f"{self.identity[0].upper()}{self.identity[1:]}"


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
    if (host := unreachable_host(error)) is not None:
        return _unreachable(host or cloud.login)
    if (status := login_status(error)) >= 500:
        return UnreachableError(
            f"Microsoft Entra ID at {cloud.login} answered {status} for {identity}. "
            "Try again later."
        )
    # msal drops the number of the error here.
    if "authority configuration" in str(error):
        return InvalidOptionError(
            f"{cloud.login} knows no such tenant as that of {identity}. Check tenant_id and 'cloud'."
        )
    if isinstance(error, CredentialUnavailableError):
        return AccessError(f"There is no token to be had for {identity} on this machine.")
    return AccessError(
        f"No token was given to {identity}. Give tenant_id, client_id and client_secret in the "
        "credentials, run `az login`, or run where a managed or workload identity is assigned."
    )


def explain(error: BaseException, asked: Asked) -> ConnectionsError:
    """Say why the workspace could not be opened, though there is a token."""
    if (ours := _ours(error)) is not None:
        return ours
    if (host := unreachable_host(error)) is not None:
        return _unreachable(host or asked.host)
    if (answer := answer_behind(error)) is not None:
        return explain_answer(answer, asked)
    # azureml-core's own check, by the list of the tenant's subscriptions.
    if type(error).__name__ == "UserErrorException" and "subscription" in str(error):
        return _no_subscription(asked)
    return ConnectionsError(
        f"The workspace '{asked.workspace.name}' could not be opened: {type(error).__name__}. "
        "Its message is in the log of 'mlflow_connections_azureml' at level DEBUG."
    )


def explain_answer(answer: Answer, asked: Asked) -> ConnectionsError:
    """Say what an error of ARM, or of the workspace's own host, means."""
    status, code, host = answer
    workspace, identity = asked.workspace, asked.identity
    if status == 401:
        return AccessError(
            f"Azure did not accept the token of {identity} for subscription "
            f"'{workspace.subscription_id}' ({code}). Check tenant_id, that it is the "
            "subscription's tenant, and 'cloud'."
        )
    if status == 403 and ".api." in host:
        return private_link(workspace)
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
        f"Azure refused the question for the workspace '{workspace.name}' ({status}, {code}). "
        "Check 'subscription_id', 'resource_group' and 'workspace_name'."
    )


def private_link(workspace: Workspace) -> ConnectionsError:
    """Say that the workspace is only to be reached from its own network."""
    return AccessError(
        f"The workspace '{workspace.name}' refuses the public network: it has a private link. Run "
        "inside its virtual network or through a VPN, or allow public access to it."
    )


def _no_subscription(asked: Asked) -> ConnectionsError:
    return AccessError(
        f"{asked.who} cannot see subscription '{asked.workspace.subscription_id}'. Check "
        "'subscription_id', which is an id and no name, check the tenant, and give the identity a "
        "role on the workspace."
    )


def _unreachable(host: str) -> ConnectionsError:
    return UnreachableError(
        f"{host} cannot be reached. Check the network, HTTPS_PROXY, REQUESTS_CA_BUNDLE and the "
        "firewall; a workspace with a private link is reached only from its own network."
    )


def _ours(error: BaseException) -> ConnectionsError | None:
    return next((e for e in chain(error) if isinstance(e, ConnectionsError)), None)
