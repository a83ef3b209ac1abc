"""Identities: every non-interactive method works, and a person is prompted only with `interactive`."""

from typing import Any

import pytest

from mlflow_connections_sandbox._azure import Azure

ARM = {"sdk": "arm", "timeout": 20}
NOBODY = "99999999-9999-4999-8999-999999999999"


@pytest.fixture
def alone(azure: Azure, nobody: Any) -> Any:
    """A client without any sign-in, before and after the test."""
    set_by_tests = {
        *azure.managed_identity(),
        *azure.workload_identity(),
        *("AZURE_CLIENT_SECRET", "AZURE_TOKEN_CREDENTIALS"),
    }
    nobody.resolve(options={"sdk": "arm", "timeout": 0}, environment=dict.fromkeys(set_by_tests))
    azure.journal.clear()
    return nobody


def service_principal(azure: Azure) -> dict[str, str]:
    """Return the service principal as in credentials.yml."""
    account = azure.account
    return {
        "tenant_id": account.tenant_id,
        "client_id": account.client_id,
        "client_secret": account.client_secret,
    }


@pytest.mark.parametrize("sdk", ["arm", "v1"])
def test_service_principal_of_the_credentials(azure: Azure, alone: Any, sdk: str) -> None:
    """A service principal in the credentials signs in to both SDKs."""
    answer = alone.resolve(service_principal(azure), {"sdk": sdk})

    assert answer["uri"].startswith("azureml://westeurope.api.azureml.ms/mlflow/v2.0")


@pytest.mark.parametrize("cloud", ["AzureUSGovernment", "AzureChinaCloud"])
def test_sovereign_cloud(azure: Azure, alone: Any, cloud: str) -> None:
    """A workspace in another cloud is found there, and the cloud's name is exported."""
    azure.account.cloud_name = cloud

    answer = alone.resolve(service_principal(azure), {**ARM, "cloud": cloud})

    assert f".api.{azure.account.cloud.ml}/mlflow/v2.0" in answer["uri"]
    assert answer["environment"]["AZUREML_CURRENT_CLOUD"] == cloud


def test_sovereign_cloud_with_azureml_core(azure: Azure, alone: Any) -> None:
    """azureml-core uses the named cloud too."""
    azure.account.cloud_name = "AzureUSGovernment"

    answer = alone.resolve(service_principal(azure), {"sdk": "v1", "cloud": "AzureUSGovernment"})

    assert f".api.{azure.account.cloud.ml}/mlflow/v2.0" in answer["uri"], answer


def test_service_principal_of_azure_identity_variables(azure: Azure, alone: Any) -> None:
    """The variables that all of Azure's own tools read are sufficient."""
    credentials = service_principal(azure)

    answer = alone.resolve(
        options=ARM,
        environment={f"AZURE_{name.upper()}": value for name, value in credentials.items()},
    )

    assert "uri" in answer, answer


@pytest.mark.parametrize("sdk", ["arm", "v1"])
def test_user_assigned_managed_identity(azure: Azure, alone: Any, sdk: str) -> None:
    """The managed identity of the options signs in."""
    options = {"sdk": sdk, "managed_identity_client_id": azure.account.managed_identity_client_id}

    answer = alone.resolve(options=options, environment=azure.managed_identity())

    assert "uri" in answer, answer
    assert azure.journal.requests("/msi/token")
    assert not azure.journal.requests("/oauth2/")


def test_system_assigned_managed_identity(azure: Azure, alone: Any) -> None:
    """Without a client ID the machine's own identity signs in."""
    answer = alone.resolve(options=ARM, environment=azure.managed_identity())

    assert "uri" in answer, answer
    assert azure.journal.requests("/msi/token")


def test_unknown_managed_identity(azure: Azure, alone: Any) -> None:
    """The error names an identity that the machine does not have."""
    answer = alone.resolve(
        options={**ARM, "managed_identity_client_id": NOBODY},
        environment=azure.managed_identity(),
    )

    assert answer["error"] == "AccessError"
    assert f"the managed identity '{NOBODY}'" in answer["message"]


def test_workload_identity(azure: Azure, alone: Any) -> None:
    """The token of a pod's workload identity signs in."""
    answer = alone.resolve(options=ARM, environment=azure.workload_identity())

    assert "uri" in answer, answer
    assert azure.journal.requests("/oauth2/v2.0/token")


@pytest.mark.parametrize("sdk", ["arm", "v1"])
def test_azure_cli(azure: Azure, alone: Any, sdk: str) -> None:
    """`az login` is sufficient, with both SDKs and without azure-cli in the environment."""
    answer = alone.resolve(options={"sdk": sdk}, environment=azure.azure_cli())

    assert "uri" in answer, answer
    assert not azure.journal.requests("/oauth2/")


@pytest.mark.parametrize("sdk", ["arm", "v1"])
def test_nobody_is_prompted(azure: Azure, alone: Any, sdk: str) -> None:
    """Without a credential it fails at once; neither a browser nor a device code is tried."""
    answer = alone.resolve(options={"sdk": sdk, "timeout": 20}, environment={"PATH": "/nowhere"})

    assert answer["error"] == "AccessError", answer
    assert "az login" in answer["message"]
    assert not azure.journal.requests("/devicecode")
    assert not azure.journal.requests("/authorize")


def test_person_is_prompted_on_request(azure: Azure, alone: Any) -> None:
    """With `interactive: true`, on a machine without a browser, a device code signs in."""
    azure.account.person_signs_in = True

    answer = alone.resolve(
        options={"sdk": "arm", "interactive": True},
        environment={"PATH": "/nowhere", "BROWSER": "/nowhere/browser"},
    )

    assert "uri" in answer, answer
    assert azure.journal.requests("/devicecode")


def test_sdk_arm_never_imports_azureml_core(azure: Azure, client: Any) -> None:
    """`sdk: arm` needs neither azureml-core nor MLflow, and sends ARM one request."""
    azure.journal.clear()

    answer = client.resolve(options=ARM)

    assert answer["imported"] == ["azure.identity"]
    assert len(azure.journal.requests("/subscriptions")) == 1


def test_private_workspace_from_inside(azure: Azure, client: Any) -> None:
    """Inside the network of a workspace with a private link, its own host is returned."""
    azure.account.is_private = azure.account.is_inside = True

    answer = client.resolve(options=ARM)

    assert azure.account.workspace_host in answer["uri"]
    assert azure.account.workspace_host.startswith(azure.account.workspace_id)
