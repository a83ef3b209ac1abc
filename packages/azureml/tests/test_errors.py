"""The error message for each failure at Azure."""

from json import JSONDecodeError

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, IncompleteReadError
from azure.identity import CredentialUnavailableError
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections import AccessError, ConnectionsError, InvalidOptionError, UnreachableError
from mlflow_connections_azureml._errors import (
    Asked,
    ErrorResponse,
    SignIn,
    error_response,
    explain,
    explain_response,
    explain_sign_in_error,
)
from mlflow_connections_azureml._options import CLOUDS, Workspace

CLOUD = CLOUDS["AzureCloud"]
WHO = "the service principal 'c'"
SIGN_IN = SignIn(WHO, CLOUD)
TENANT = "Unable to get authority configuration for https://login.microsoftonline.com/t."
DISCOVERY = "OIDC Discovery failed on https://login.microsoftonline.com/t. HTTP status:"
ASKED = Asked(CLOUD.arm, Workspace("s-id", "a-group", "a-workspace"), WHO)


@pytest.mark.parametrize(
    ("response", "kind", "says"),
    [
        (ErrorResponse(401, "InvalidAuthenticationTokenTenant"), AccessError, "tenant_id"),
        (ErrorResponse(403, "AuthorizationFailed", CLOUD.arm), AccessError, "role"),
        (ErrorResponse(403, "x", "westeurope.api.azureml.ms"), AccessError, "private link"),
        (ErrorResponse(404, "SubscriptionNotFound"), AccessError, "'s-id'"),
        (ErrorResponse(404, "ResourceGroupNotFound"), InvalidOptionError, "'a-group'"),
        (ErrorResponse(404, "ResourceNotFound"), InvalidOptionError, "'a-workspace'"),
        (ErrorResponse(429, "TooManyRequests"), UnreachableError, "throttles"),
        (ErrorResponse(500, "no code"), UnreachableError, "500"),
        (ErrorResponse(429, "no code"), UnreachableError, "throttles"),
        (ErrorResponse(302, "no code"), UnreachableError, "login page"),
        (ErrorResponse(401, "no code"), UnreachableError, "login page"),
        (ErrorResponse(403, "no code", CLOUD.arm), UnreachableError, "login page"),
        (ErrorResponse(404, "no code"), UnreachableError, "login page"),
        (ErrorResponse(407, "no code"), UnreachableError, "login page"),
        (ErrorResponse(409, "Conflict"), ConnectionsError, "Conflict"),
    ],
)
def test_error_responses(response: ErrorResponse, kind: type[ConnectionsError], says: str) -> None:
    """Each response becomes the matching error, whose sentence names the remedy."""
    error = explain_response(response, ASKED)

    assert type(error) is kind
    assert says in str(error)


@pytest.mark.parametrize(
    "code", ["AADSTS700082", "AADSTS700084", "AADSTS70043", "AADSTS50173", "AADSTS50132"]
)
def test_expired_login_names_the_command_that_renews_it(code: str) -> None:
    """An expired login is renewed by `az login` for the required tenant and scope."""
    sign_in = SignIn("the Azure login of this machine", CLOUD, "my-tenant")

    error = explain_sign_in_error(ClientAuthenticationError(f"{code}: The token expired"), sign_in)

    assert isinstance(error, AccessError)
    assert code in str(error)
    assert "`az login --tenant my-tenant --scope https://management.azure.com/.default`" in str(
        error
    )


@pytest.mark.parametrize("code", ["AADSTS50076", "AADSTS50078", "AADSTS50079", "AADSTS50158"])
def test_second_factor_names_the_command_that_asks_for_it(code: str) -> None:
    """A sign-in without the second factor is explained, with the command that asks for it."""
    error = explain_sign_in_error(ClientAuthenticationError(f"{code}: you must use MFA"), SIGN_IN)

    assert "multi-factor authentication" in str(error)
    assert "`az login --scope https://management.azure.com/.default`" in str(error)


@pytest.mark.parametrize(
    ("attempt", "kind", "says"),
    [
        ("Azure CLI not found on path", AccessError, "the Azure CLI is not on the PATH"),
        ("Please run 'az login' to set up an account", AccessError, "nobody is signed in"),
        ("Failed to invoke the Azure CLI", UnreachableError, "did not answer within 10 s"),
        (
            "HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max retries",
            UnreachableError,
            "login.microsoftonline.com cannot be reached",
        ),
        ("Something else", AccessError, "no credential that azure-identity tried"),
    ],
)
def test_state_of_the_azure_cli(attempt: str, kind: type[ConnectionsError], says: str) -> None:
    """A missing, signed-out, slow or offline Azure CLI is distinguished."""
    tried = f"DefaultAzureCredential failed.\n\tAzureCliCredential: {attempt}"

    error = explain_sign_in_error(ClientAuthenticationError(tried), SIGN_IN)

    assert type(error) is kind
    assert says in str(error)


def test_unknown_error_of_entra_keeps_its_number() -> None:
    """A refusal that has no sentence of its own keeps its number, so that it can be looked up."""
    error = explain_sign_in_error(ClientAuthenticationError("AADSTS99999: dump"), SIGN_IN)

    assert isinstance(error, AccessError)
    assert "AADSTS99999" in str(error)


def of_msal(told: str, cause: Exception) -> Exception:
    """Return an error as azure-identity raises it after one of msal's."""
    error = ClientAuthenticationError(f"Authentication failed: {told}")
    error.__cause__ = ValueError(told)
    error.__cause__.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (
            of_msal(TENANT, ValueError(f"{DISCOVERY} 400, Error: AADSTS90002: Tenant not found.")),
            *(InvalidOptionError, "does not know the tenant of"),
        ),
        (
            of_msal(TENANT, ValueError(f"{DISCOVERY} 429, Error: <html>")),
            *(UnreachableError, "answered 429"),
        ),
        (
            of_msal(TENANT, ValueError(f"{DISCOVERY} 403, Error: <html>")),
            *(UnreachableError, "login page"),
        ),
        (of_msal(TENANT, JSONDecodeError("no", "<html>", 0)), UnreachableError, "login page"),
        (of_msal("no", JSONDecodeError("no", "<html>", 0)), UnreachableError, "login page"),
        (of_msal("no", IncompleteReadError("cut")), UnreachableError, "cannot be reached"),
    ],
)
def test_a_page_in_the_place_of_entra_says_nothing_about_the_credential(
    error: Exception, kind: type[ConnectionsError], says: str
) -> None:
    """A proxy, a login page or a throttled sign-in is not taken for a wrong tenant or a missing credential."""
    explained = explain_sign_in_error(error, SIGN_IN)

    assert type(explained) is kind
    assert says in str(explained)
    assert CLOUD.login in str(explained)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (JSONDecodeError("no", "<html>", 0), "login page"),
        (type("DeserializationError", (Exception,), {})("<html>"), "login page"),
        (requests.exceptions.ChunkedEncodingError("cut"), "cannot be reached"),
    ],
)
def test_a_response_that_is_not_azures_is_no_answer(error: Exception, says: str) -> None:
    """A response that a client cannot read did not come from Azure Resource Manager."""
    explained = explain(error, ASKED)

    assert type(explained) is UnreachableError
    assert says in str(explained)


def test_unavailable_credential() -> None:
    """An identity that the machine lacks is named."""
    error = explain_sign_in_error(CredentialUnavailableError("no endpoint"), SIGN_IN)

    assert str(error) == f"This machine has no token for {WHO}."


def test_network_error_within_another_one() -> None:
    """A network error is recognized however often a client has wrapped it."""
    request = requests.Request("GET", "https://management.azure.com/x").prepare()
    wrapped = ValueError("workspace")
    wrapped.__cause__ = requests.ConnectionError("refused", request=request)

    error = explain(wrapped, ASKED)

    assert isinstance(error, UnreachableError)
    assert str(error).startswith("management.azure.com cannot be reached")


def test_own_error_is_kept() -> None:
    """An error of this package is not explained again."""
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
def test_code_of_a_response(body: bytes, code: str) -> None:
    """Azure's code is read if it is valid, whatever else a gateway sends."""
    response = requests.Response()
    response.status_code, response._content = 404, body
    response.request = requests.Request("GET", "https://management.azure.com/x").prepare()

    assert error_response(response) == ErrorResponse(404, code, "management.azure.com")


@given(st.text(max_size=200))
def test_text_of_a_service_is_never_repeated(text: str) -> None:
    """The text of a client's error is not in the message, because it may be a secret."""
    marked = f"{text} Payroll-Subscription"

    for error in (
        explain_sign_in_error(ClientAuthenticationError(marked), SIGN_IN),
        explain(RuntimeError(marked), ASKED),
    ):
        assert "Payroll-Subscription" not in str(error)
        assert "\n" not in str(error)
