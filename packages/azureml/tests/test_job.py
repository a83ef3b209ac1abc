"""Inside an AzureML job."""

import logging

import pytest

import mlflow_connections

URI = (
    "azureml://westeurope.api.azureml.ms/mlflow/v2.0/subscriptions/s/resourceGroups/g"
    "/providers/Microsoft.MachineLearningServices/workspaces/w?"
)
WORKSPACE = {"subscription_id": "s", "resource_group": "g", "workspace_name": "w"}


@pytest.fixture(autouse=True)
def job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a job."""
    monkeypatch.setenv("AZUREML_RUN_ID", "run")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URI)


def test_uri_of_the_job_is_kept() -> None:
    """The job's own URI is returned, without any option or exported variable."""
    endpoint = mlflow_connections.resolve("azureml")

    assert endpoint.tracking_uri == URI
    assert endpoint.environment == {}


def test_another_workspace_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """A job in another workspace than the configured one keeps its URI and logs a warning."""
    with caplog.at_level(logging.WARNING):
        endpoint = mlflow_connections.resolve(
            "azureml", {}, {**WORKSPACE, "workspace_name": "elsewhere"}
        )

    assert endpoint.tracking_uri == URI
    assert "'elsewhere'" in caplog.text


def test_same_workspace_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """The configured workspace, in any letter case, causes no warning."""
    with caplog.at_level(logging.WARNING):
        mlflow_connections.resolve("azureml", {}, {**WORKSPACE, "resource_group": "G"})

    assert caplog.text == ""


@pytest.mark.parametrize(
    ("variable", "value"),
    [("AZUREML_RUN_ID", ""), ("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")],
)
def test_no_job_without_both(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's ID alone, or an AzureML URI alone, is not a job."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(mlflow_connections.MissingOptionError):
        mlflow_connections.resolve("azureml")
