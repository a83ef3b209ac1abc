"""After `az login`, one process fetches the token of the right tenant, and the remedy in errors works."""

from collections.abc import Callable
from typing import Any

import pytest

from mlflow_connections_sandbox._azure import Azure
from mlflow_connections_sandbox._azure._stand_in import (
    EXPIRED_LOGIN,
    NO_NETWORK,
    SECOND_FACTOR,
    SIGNED_OUT,
)

ARM = {"sdk": "arm", "timeout": 20}
NOBODY = "99999999-9999-4999-8999-999999999999"
SCOPE = "--scope https://management.azure.com/.default`"


@pytest.fixture
def person(azure: Azure, nobody: Any) -> Any:
    """A client on a machine where a person ran `az login`."""
    nobody.resolve(options={"timeout": 0, "sdk": "arm"}, environment=azure.azure_cli())
    return nobody


@pytest.mark.parametrize("sdk", ["arm", "v1"])
def test_one_process_per_token(azure: Azure, person: Any, sdk: str) -> None:
    """However many requests a sign-in serves, `az` starts once for it."""
    answer = person.resolve(options={**ARM, "sdk": sdk})

    assert "uri" in answer, answer
    assert len(azure.cli.calls) == 1


def test_one_process_for_many_metrics(workspace: Azure, run_script: Callable[..., Any]) -> None:
    """Twenty metrics start `az` once; azure-identity alone starts it for each request."""
    read = run_script("log_metrics.py", "arm", "20", signed_in=False, **dict(workspace.azure_cli()))

    assert read == {"metrics": 20}
    assert len(workspace.cli.calls) == 1


def test_tenant_reaches_the_azure_cli(azure: Azure, person: Any) -> None:
    """The connection's tenant_id is the tenant that is requested from `az`."""
    answer = person.resolve({"tenant_id": azure.account.tenant_id}, ARM)

    assert "uri" in answer, answer
    assert f"--tenant {azure.account.tenant_id}" in azure.cli.calls[-1]


def test_unknown_tenant_of_a_person(azure: Azure, person: Any) -> None:
    """A tenant that the person does not belong to is an error about tenant_id."""
    answer = person.resolve({"tenant_id": NOBODY}, ARM)

    assert answer["error"] == "InvalidOptionError", answer
    assert "AADSTS90002" in answer["message"]
    assert "tenant_id" in answer["message"]


@pytest.mark.parametrize(
    ("failure", "error", "says"),
    [
        (EXPIRED_LOGIN, "AccessError", ("AADSTS700082", "`az login ", SCOPE)),
        (SECOND_FACTOR, "AccessError", ("AADSTS50076", "multi-factor", "`az login ", SCOPE)),
        (SIGNED_OUT, "AccessError", ("nobody is signed in to the Azure CLI", "`az login ", SCOPE)),
        (NO_NETWORK, "UnreachableError", ("login.microsoftonline.com cannot be reached",)),
    ],
    ids=["expired", "second factor", "signed out", "no network"],
)
def test_failure_of_the_azure_cli(
    azure: Azure, person: Any, failure: str, error: str, says: tuple[str, ...]
) -> None:
    """A refusal of `az` is one sentence with the helpful command, and nothing is logged."""
    azure.cli.fail(failure)

    answer = person.resolve(options=ARM)

    assert answer.get("error") == error, answer
    for part in says:
        assert part in answer["message"]
    assert "\n" not in answer["message"]
    assert answer["shown"] == []
    assert answer["logged"] == ""


def test_slow_azure_cli_is_not_a_missing_login(azure: Azure, person: Any) -> None:
    """If `az` does not end in time, the error names it and does not suggest signing in."""
    azure.cli.delay(60)

    answer = person.resolve(options={"sdk": "arm", "timeout": 3})

    assert answer["error"] == "UnreachableError", answer
    assert "The Azure CLI did not answer within 2 s" in answer["message"]
    assert "az login" not in answer["message"]
    assert answer["seconds"] < 20


@pytest.mark.slow
def test_azure_cli_gets_the_timeout_of_the_connection(azure: Azure, person: Any) -> None:
    """An `az` that needs 11 s signs in: azure-identity's own limit of 10 s does not apply."""
    azure.cli.delay(11)

    answer = person.resolve(options={"sdk": "arm"})

    assert "uri" in answer, answer


def test_missing_azure_cli(azure: Azure, nobody: Any) -> None:
    """Without `az` on the PATH the message names it, in one line and without a warning."""
    environment = dict.fromkeys([*azure.managed_identity(), *azure.workload_identity()])

    answer = nobody.resolve(options=ARM, environment={**environment, "PATH": "/nowhere"})

    assert answer["error"] == "AccessError", answer
    assert "the Azure CLI is not on the PATH" in answer["message"]
    assert answer["logged"] == ""
