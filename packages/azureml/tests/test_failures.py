"""Sentences for what went wrong at Azure."""

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections import AccessError, ConnectionsError, InvalidOptionError, UnreachableError
from mlflow_connections_azureml._clouds import CLOUDS
from mlflow_connections_azureml._evidence import Answer, answer_of
from mlflow_connections_azureml._failures import (
    Asked,
    explain,
    explain_answer,
    explain_token_error,
)
from mlflow_connections_azureml._options import Workspace

CLOUD = CLOUDS["AzureCloud"]
WHO = "the service principal 'c'"
ASKED = Asked(CLOUD.arm, Workspace("s-id", "a-group", "a-workspace"), WHO)


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (Answer(401, "InvalidAuthenticationTokenTenant"), AccessError, "tenant_id"),
        (Answer(403, "AuthorizationFailed", CLOUD.arm), AccessError, "role"),
        (Answer(403, "x", "westeurope.api.azureml.ms"), AccessError, "private link"),
        (Answer(404, "SubscriptionNotFound"), AccessError, "'s-id'"),
        (Answer(404, "ResourceGroupNotFound"), InvalidOptionError, "'a-group'"),
        (Answer(404, "ResourceNotFound"), InvalidOptionError, "'a-workspace'"),
        (Answer(429, "TooManyRequests"), UnreachableError, "throttles"),
        (Answer(500, "no code"), UnreachableError, "500"),
        (Answer(409, "Conflict"), ConnectionsError, "Conflict"),
    ],
)
def test_answers(answer: Answer, kind: type[ConnectionsError], says: str) -> None:
    """Each answer gets the error that fits and a sentence that says what to check."""
    error = explain_answer(answer, ASKED)

    assert type(error) is kind
    assert says in str(error)


def test_unknown_error_of_entra_keeps_its_number() -> None:
    """A refusal without a sentence of its own can be looked up."""
    error = explain_token_error(ClientAuthenticationError("AADSTS99999: dump"), WHO, CLOUD)

    assert isinstance(error, AccessError)
    assert "AADSTS99999" in str(error)


def test_unavailable_credential() -> None:
    """An identity that the machine does not have is named."""
    error = explain_token_error(CredentialUnavailableError("no endpoint"), WHO, CLOUD)

    assert str(error) == f"There is no token to be had for {WHO} on this machine."


def test_network_error_within_another_one() -> None:
    """The network is to blame, however often a client has wrapped its error."""
    request = requests.Request("GET", "https://management.azure.com/x").prepare()
    wrapped = ValueError("workspace")
    wrapped.__cause__ = requests.ConnectionError("refused", request=request)

    error = explain(wrapped, ASKED)

    assert isinstance(error, UnreachableError)
    assert str(error).startswith("management.azure.com cannot be reached")


def test_own_error_is_kept() -> None:
    """An error of ours is not explained again."""
    own, wrapped = AccessError("as it was"), RuntimeError()
    wrapped.__cause__ = own

    assert explain(wrapped, ASKED) is own


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error": {"code": "ResourceNotFound", "message": "x"}}', "ResourceNotFound"),
        (b'{"error": {"code": "Bearer abc.def"}}', "no code"),
        (b'{"error": "text"}', "no code"),
        (b"[]", "no code"),
        (b"<html>", "no code"),
    ],
)
def test_code_of_an_answer(body: bytes, code: str) -> None:
    """Azure's code is read where it is one, whatever else a gateway may answer."""
    response = requests.Response()
    response.status_code, response._content = 404, body
    response.request = requests.Request("GET", "https://management.azure.com/x").prepare()

    assert answer_of(response) == Answer(404, code, "management.azure.com")


@given(st.text(max_size=200))
def test_text_of_a_service_is_never_repeated(text: str) -> None:
    """Whatever a client's error says, its text is not in the message: it may be a secret."""
    marked = f"{text} Payroll-Subscription"

    for error in (
        explain_token_error(ClientAuthenticationError(marked), WHO, CLOUD),
        explain(RuntimeError(marked), ASKED),
    ):
        assert "Payroll-Subscription" not in str(error)
        assert "\n" not in str(error)
