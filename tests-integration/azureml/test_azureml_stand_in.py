"""The stand-in is as strict as Azure: it refuses the same requests, over the wire."""

from typing import Any

import pytest
import requests

from mlflow_connections_sandbox._azure import Azure

API = "api-version=2024-04-01"


def ask(azure: Azure, url: str, token: str = "", **options: Any) -> requests.Response:
    """Send a request as Azure's clients do: through the proxy."""
    network = azure.network()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.request(
        options.pop("method", "GET"),
        url,
        headers={**headers, **options.pop("headers", {})},
        proxies={"https": network["HTTPS_PROXY"]},
        verify=network["REQUESTS_CA_BUNDLE"],
        timeout=60,
        **options,
    )


def arm(azure: Azure, query: str = API) -> str:
    """Return the address of the workspace at ARM."""
    return f"https://management.azure.com{azure.account.scope}?{query}"


def code(response: requests.Response) -> str:
    """Return Azure's code of an error."""
    found: str = response.json()["error"]["code"]
    return found


@pytest.fixture
def token(azure: Azure) -> str:
    """A valid token of ARM."""
    return azure.tokens.issue("https://management.azure.com", "somebody")


def test_valid_token_is_accepted(azure: Azure, token: str) -> None:
    """ARM accepts a token that was issued for it."""
    assert ask(azure, arm(azure), token).json()["name"] == azure.account.workspace_name


def test_missing_token(azure: Azure) -> None:
    """ARM refuses requests without a token."""
    response = ask(azure, arm(azure))

    assert (response.status_code, code(response)) == (401, "AuthenticationFailed")


def test_token_of_another_audience(azure: Azure) -> None:
    """ARM refuses a token for AzureML's portal."""
    token = azure.tokens.issue("https://ml.azure.com", "somebody")

    response = ask(azure, arm(azure), token)

    assert (response.status_code, code(response)) == (401, "InvalidAuthenticationTokenAudience")


def test_expired_token(azure: Azure) -> None:
    """A token that expired yesterday is refused."""
    token = azure.tokens.issue("https://management.azure.com", "somebody", seconds=-60)

    response = ask(azure, arm(azure), token)

    assert (response.status_code, code(response)) == (401, "ExpiredAuthenticationToken")


def test_foreign_token(azure: Azure, token: str) -> None:
    """A token with another signature is refused."""
    head, body, _ = token.split(".")

    response = ask(azure, arm(azure), f"{head}.{body}.c2lnbmF0dXJl")

    assert (response.status_code, code(response)) == (401, "InvalidAuthenticationToken")


def test_token_at_another_cloud(azure: Azure, token: str) -> None:
    """Another cloud's ARM refuses this cloud's tokens."""
    url = arm(azure).replace("management.azure.com", "management.usgovcloudapi.net")

    response = ask(azure, url, token)

    assert (response.status_code, code(response)) == (401, "InvalidAuthenticationTokenTenant")


@pytest.mark.parametrize(
    ("query", "expected"),
    [("", "MissingApiVersionParameter"), ("api-version=1999-01-01", "InvalidApiVersionParameter")],
)
def test_api_version(azure: Azure, token: str, query: str, expected: str) -> None:
    """ARM requires an api-version that it supports."""
    response = ask(azure, arm(azure, query), token)

    assert (response.status_code, code(response)) == (400, expected)


@pytest.mark.parametrize(
    ("scope", "number"),
    [
        ("https://management.azure.com/user_impersonation", 1002012),
        ("https://graph.microsoft.com/.default", 500011),
    ],
)
def test_scope(azure: Azure, scope: str, number: int) -> None:
    """Entra ID issues tokens to an application only for known resources and whole scopes."""
    account = azure.account
    form = {
        "grant_type": "client_credentials",
        "client_id": account.client_id,
        "client_secret": account.client_secret,
        "scope": scope,
    }
    url = f"https://login.microsoftonline.com/{account.tenant_id}/oauth2/v2.0/token"

    response = ask(azure, url, method="POST", data=form)

    assert response.status_code == 400
    assert response.json()["error_codes"] == [number]


def test_nothing_leaves_the_machine(azure: Azure) -> None:
    """The proxy refuses hosts that it does not simulate."""
    with pytest.raises(requests.exceptions.ProxyError, match="403"):
        ask(azure, "https://example.org/")


def test_mlflow_needs_a_token(azure: Azure) -> None:
    """MLflow's API at the workspace requires a token."""
    url = f"https://{azure.account.workspace_host}/mlflow/v2.0{azure.account.scope}"

    assert ask(azure, f"{url}/api/2.0/mlflow/experiments/search").status_code == 401


def test_logged_models_are_absent(azure: Azure, token: str) -> None:
    """MLflow 3's logged models return 404 without a message, as on Azure."""
    url = f"https://{azure.account.workspace_host}/mlflow/v2.0{azure.account.scope}"

    response = ask(azure, f"{url}/api/2.0/mlflow/logged-models", token, method="POST", json={})

    assert (response.status_code, response.text) == (404, "")


def test_blob_needs_its_signature(workspace: Azure) -> None:
    """A blob can be written only with the address that the workspace issued for it."""
    token = workspace.tokens.issue("https://management.azure.com", "somebody")
    base = f"https://{workspace.account.workspace_host}/artifact/v2.0{workspace.account.scope}"
    answer = ask(
        workspace,
        f"{base}/artifacts/LocalUpload/box/batch/metadata",
        token,
        method="POST",
        json={"paths": [{"path": "a.txt"}]},
    ).json()
    signed = answer["artifactContentInformation"]["a.txt"]["contentUri"]
    headers = {"x-ms-version": "2021-12-02", "x-ms-blob-type": "BlockBlob", "If-None-Match": "*"}

    def put(url: str) -> int:
        return ask(workspace, url, method="PUT", data=b"text", headers=headers).status_code

    assert put(signed.replace("a.txt", "b.txt")) == 403
    assert put(signed.partition("?")[0]) == 409
    assert put(signed) == 201
    assert put(signed) == 409
