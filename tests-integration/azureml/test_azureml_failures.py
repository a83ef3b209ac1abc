"""Each failure is one sentence, in time, without secrets."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest

from mlflow_connections_sandbox import Fault
from mlflow_connections_sandbox._azure import Azure
from mlflow_connections_sandbox._azure._arm import OTHER_SUBSCRIPTION

TIMEOUT = 25
"""Seconds: more than any client's own retries take, so that the client's own error is tested."""
IMPATIENT = 3
"""Seconds, for hosts that never respond."""
NOBODY = "99999999-9999-4999-8999-999999999999"
SECRET = "a-secret-that-is-wrong"
BOTH = ("arm", "v1")


def cause(**attributes: bool) -> Callable[[Azure], None]:
    """Change the account."""

    def act(azure: Azure) -> None:
        for name, value in attributes.items():
            setattr(azure.account, name, value)

    return act


def inject(**fault: Any) -> Callable[[Azure], None]:
    """Activate a fault."""
    return lambda azure: azure.faults.inject(Fault(**fault))


def refuse(host: Callable[[Azure], str]) -> Callable[[Azure], None]:
    """Make a host unreachable."""
    return lambda azure: azure.proxy.refused.add(host(azure))


def private_and_unknown(azure: Azure) -> None:
    """Make the workspace private, and its host unreachable from this machine."""
    azure.account.is_private = True
    azure.proxy.refused.add(azure.account.workspace_host)


class Case(NamedTuple):
    """A fault and its message."""

    name: str
    error: str
    says: tuple[str, ...]
    act: Callable[[Azure], Any] = lambda azure: None
    credentials: Mapping[str, str] = {}
    options: Mapping[str, str] = {}
    sdks: tuple[str, ...] = BOTH


CASES = [
    Case(
        "wrong secret",
        "AccessError",
        ("AADSTS7000215", "client_secret is wrong"),
        credentials={"client_secret": SECRET},
    ),
    Case(
        "unknown tenant",
        "InvalidOptionError",
        ("does not know the tenant of", "tenant_id"),
        credentials={"tenant_id": NOBODY},
    ),
    Case(
        "tenant that is none",
        "InvalidOptionError",
        ("tenant_id", "neither an id nor a domain"),
        credentials={"tenant_id": "no tenant!"},
    ),
    Case(
        "unknown application",
        "InvalidOptionError",
        ("AADSTS700016", "client_id"),
        credentials={"client_id": NOBODY},
    ),
    Case(
        "another cloud",
        "InvalidOptionError",
        ("login.microsoftonline.us", "'cloud'"),
        options={"cloud": "AzureUSGovernment"},
    ),
    Case(
        "invisible subscription",
        "AccessError",
        ("cannot see subscription", "'subscription_id'"),
        cause(is_subscription_visible=False),
    ),
    Case(
        "name of a subscription",
        "AccessError",
        ("an id and not a name",),
        options={"subscription_id": "Sandbox"},
    ),
    Case(
        "missing group",
        "InvalidOptionError",
        ("no resource group 'nowhere'", "'resource_group'"),
        options={"resource_group": "nowhere"},
    ),
    Case(
        "missing workspace",
        "InvalidOptionError",
        ("no workspace 'nothing'", "'workspace_name'"),
        options={"workspace_name": "nothing"},
    ),
    Case("no role", "AccessError", ("may not read", "role"), cause(may_read=False)),
    Case(
        "ARM answers 500",
        "UnreachableError",
        ("answered 500", "Try again later"),
        inject(path="/workspaces/", status=500, body="<html>", content_type="text/html"),
    ),
    Case(
        "ARM cuts",
        "UnreachableError",
        ("management.azure.com cannot be reached", "HTTPS_PROXY"),
        inject(path="/subscriptions", cut=True),
        sdks=("arm",),
    ),
    Case(
        "ARM cannot be reached",
        "UnreachableError",
        ("management.azure.com cannot be reached", "HTTPS_PROXY"),
        refuse(lambda azure: azure.account.cloud.arm),
    ),
    Case(
        "something else answers for ARM",
        "UnreachableError",
        ("does not come from Azure Resource Manager", "login page"),
        inject(path="/workspaces/", status=200, body="<html>", content_type="text/html"),
    ),
    Case(
        "a proxy refuses ARM",
        "UnreachableError",
        ("does not come from Azure Resource Manager", "login page"),
        inject(path="/workspaces/", status=403, body="<html>", content_type="text/html"),
    ),
    Case(
        "ARM ends in the middle",
        "UnreachableError",
        ("management.azure.com cannot be reached",),
        inject(path="/workspaces/", truncate=10),
    ),
    Case(
        "something else answers for the tenant",
        "UnreachableError",
        ("does not come from Microsoft Entra ID", "login page"),
        inject(path="/openid-configuration", status=200, body="<html>", content_type="text/html"),
    ),
    Case(
        "a proxy refuses the sign-in",
        "UnreachableError",
        ("does not come from Microsoft Entra ID", "login page"),
        inject(path="/openid-configuration", status=403, body="<html>", content_type="text/html"),
    ),
    Case(
        "something else answers for the sign-in",
        "UnreachableError",
        ("does not come from Microsoft Entra ID", "login page"),
        inject(path="/token", status=200, body="<html>", content_type="text/html"),
    ),
    Case(
        "ARM throttles",
        "UnreachableError",
        ("throttles",),
        inject(path="/workspaces/", status=429, headers=(("Retry-After", "0"),)),
        sdks=("arm",),
    ),
    Case(
        "Entra ID answers 500",
        "UnreachableError",
        ("login.microsoftonline.com answered 500",),
        inject(path="/oauth2/", status=500),
        sdks=("arm",),
    ),
    Case(
        "Entra ID cannot be reached",
        "UnreachableError",
        ("login.microsoftonline.com cannot be reached", "HTTPS_PROXY"),
        refuse(lambda azure: azure.account.cloud.login),
    ),
    Case(
        "discovery answers 500",
        "UnreachableError",
        ("answered 500", "Try again later"),
        inject(path="/discovery", status=500),
        sdks=("v1",),
    ),
    Case(
        "discovery cannot be reached",
        "UnreachableError",
        ("westeurope.api.azureml.ms cannot be reached", "private link"),
        refuse(lambda azure: azure.account.workspace_host),
        sdks=("v1",),
    ),
    Case("private link", "AccessError", ("private link", "VPN"), cause(is_private=True)),
    Case(
        "private link, unknown host",
        "UnreachableError",
        ("cannot be reached", "private link"),
        private_and_unknown,
    ),
    # These leave a hanging thread behind, so they come last.
    Case(
        "ARM hangs",
        "UnreachableError",
        ("waiting for Azure Resource Manager at management.azure.com", "'timeout'"),
        lambda azure: azure.proxy.silent.add(azure.account.cloud.arm),
    ),
    Case(
        "Entra ID hangs",
        "UnreachableError",
        ("at login.microsoftonline.com. Check the network", "'timeout'"),
        lambda azure: azure.proxy.silent.add(azure.account.cloud.login),
    ),
    Case(
        "discovery hangs",
        "UnreachableError",
        ("waiting for the discovery service of the workspace", "'timeout'"),
        lambda azure: azure.proxy.silent.add(azure.account.workspace_host),
        sdks=("v1",),
    ),
]


@pytest.mark.parametrize(
    ("sdk", "case"),
    [pytest.param(s, c, id=f"{s}-{c.name}") for s in BOTH for c in CASES if s in c.sdks],
)
def test_failure_is_one_sentence_in_time(azure: Azure, client: Any, sdk: str, case: Case) -> None:
    """Each failure names the place and the remedy within the timeout, and shows no secret."""
    case.act(azure)
    timeout = IMPATIENT if "hangs" in case.name else TIMEOUT

    answer = client.resolve(case.credentials, {"sdk": sdk, "timeout": timeout, **case.options})

    assert answer.get("error") == case.error, answer
    message = answer["message"]
    for part in case.says:
        assert part in message
    assert "\n" not in message
    everything = " ".join([message, *answer["shown"]])
    assert OTHER_SUBSCRIPTION not in everything
    assert SECRET not in everything
    assert azure.account.client_secret not in everything
