"""What happens in a process that inherits a tracking URI."""

from collections.abc import Mapping
from uuid import uuid4

import pytest
from azureml.mlflow._internal.service_context_loader import _AzureMLServiceContextLoader

from mlflow_connections import AccessError
from mlflow_connections_azureml import _worker
from mlflow_connections_azureml._worker import MARK, MARK_VALUE, WorkerBinding, bind_inherited


@pytest.fixture
def uri() -> str:
    """A URI that no other test binds: bindings last as long as the process."""
    return (
        f"azureml://westeurope.api.azureml.ms/mlflow/v2.0/subscriptions/{uuid4()}"
        "/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
    )


def inherit(environ: Mapping[str, str]) -> None:
    """Be a worker with these variables, in which MLflow is imported."""
    import mlflow  # noqa: F401 - bindings wait for it

    bind_inherited(environ)


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
def test_inherited_uri_is_bound(uri: str, variable: str) -> None:
    """A worker of the connection gets a credential for the URI that it inherits."""
    inherit({MARK: MARK_VALUE, variable: uri})

    context = _AzureMLServiceContextLoader.get_service_context(uri)
    assert context.host_url == "https://westeurope.api.azureml.ms"
    assert context.workspace_name == "w"


def test_foreign_uri_is_left_alone(uri: str) -> None:
    """Without the connection's mark the URI is somebody else's."""
    inherit({"MLFLOW_TRACKING_URI": uri})

    assert not _AzureMLServiceContextLoader.has_service_context(uri)


def test_job_is_left_alone(uri: str) -> None:
    """A job has a token of its own."""
    inherit({MARK: MARK_VALUE, "MLFLOW_TRACKING_URI": uri, "AZUREML_RUN_ID": "run"})

    assert not _AzureMLServiceContextLoader.has_service_context(uri)


@pytest.mark.parametrize("other", ["http://127.0.0.1:5000", "azureml://registries/r", ""])
def test_other_uris_are_no_matter(other: str) -> None:
    """A URI that names no workspace is passed over."""
    inherit({MARK: MARK_VALUE, "MLFLOW_TRACKING_URI": other})

    assert other == "" or not _AzureMLServiceContextLoader.has_service_context(other)


def test_worker_without_a_credential_says_the_cure(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing signs in, the error names the option that would have helped."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    for name in ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.delenv(f"AZURE_{name}", raising=False)
    inherit({MARK: MARK_VALUE, "MLFLOW_TRACKING_URI": uri})

    with pytest.raises(AccessError, match="share_with_workers"):
        _AzureMLServiceContextLoader.get_service_context(uri).auth.get_token("scope/.default")


def test_provider_adds_nothing_to_runs() -> None:
    """To MLflow it is a provider of run tags that has none."""
    provider = WorkerBinding()

    assert provider.in_context() is False
    assert provider.tags() == {}
    assert _worker.__name__ == "mlflow_connections_azureml._worker"
