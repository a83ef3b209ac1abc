"""The keyword `databand`."""

import pytest

import mlflow_connections
from mlflow_connections import InvalidOptionError, MissingOptionError, resolve
from mlflow_connections_databand import connection
from mlflow_connections_databand._connection import VARIABLE

TOKEN = "DBND__CORE__DATABAND_ACCESS_TOKEN"
OPTIONS = {"databand_url": "https://acme.databand.ai", "duplicate_tracking_to": "http://m:5000"}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from an environment without settings."""
    for name in (
        TOKEN,
        "DBND__CORE__DATABAND_URL",
        "DBND__MLFLOW_TRACKING__DUPLICATE_TRACKING_TO",
        "MLFLOW_TRACKING_URI",
        VARIABLE,
    ):
        monkeypatch.delenv(name, raising=False)


def test_it_returns_a_composite_uri_and_a_separate_token() -> None:
    """The token is in the environment, never in the URI."""
    endpoint = resolve("databand", {"access_token": "t0ken"}, OPTIONS)
    assert endpoint.tracking_uri == (
        "dbnd+s://acme.databand.ai:443?duplicate_tracking_to=http%253A%252F%252Fm%253A5000"
    )
    assert endpoint.environment == {TOKEN: "t0ken"}
    assert "t0ken" not in repr(endpoint)


def test_it_reads_dbnds_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration of dbnd is sufficient."""
    monkeypatch.setenv("DBND__CORE__DATABAND_URL", "http://localhost:8080")
    monkeypatch.setenv("DBND__MLFLOW_TRACKING__DUPLICATE_TRACKING_TO", "http://mlflow-store/")
    assert connection.tracking_uri({}, {}) == (
        "dbnd://localhost:8080?duplicate_tracking_to=http%253A%252F%252Fmlflow-store%253A80%252F"
    )


def test_the_current_store_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a store the current tracking URI is used; of a composite one, its store."""
    options = {"databand_url": "http://d:1"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://m:5000")
    first = connection.tracking_uri({}, options)
    assert first == "dbnd://d:1?duplicate_tracking_to=http%253A%252F%252Fm%253A5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", first)
    assert connection.tracking_uri({}, options) == first
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert connection.tracking_uri({}, options) == "dbnd://d:1"


@pytest.mark.parametrize(
    "store",
    ["databricks", "databricks://profile", "azureml://region/x", "arn:aws:sagemaker:r:1:s/n"],
)
def test_a_store_that_mlflow_recognizes_by_its_uri_keeps_it(store: str) -> None:
    """Its tracking URI stays, and a variable names the destination of the copy."""
    endpoint = resolve(
        "databand", {}, {"databand_url": "http://d:1", "duplicate_tracking_to": store}
    )
    assert endpoint.tracking_uri == store
    assert endpoint.environment[VARIABLE].startswith("dbnd://d:1?duplicate_tracking_to=")


def test_databand_cannot_be_its_own_store() -> None:
    """The keyword and a composite URI are refused as the store."""
    for store in ("databand", "dbnd://other"):
        with pytest.raises(InvalidOptionError, match="duplicate_tracking_to"):
            connection.tracking_uri({}, {**OPTIONS, "duplicate_tracking_to": store})


def test_a_missing_address_is_named() -> None:
    """Without an address the error names both places for it."""
    with pytest.raises(MissingOptionError, match="DBND__CORE__DATABAND_URL"):
        resolve("databand")


def test_use_restores_the_previous_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the URI nor the token outlives the `with` statement."""
    import os

    with mlflow_connections.use("databand", {"access_token": "t"}, OPTIONS):
        assert os.environ[TOKEN] == "t"
    assert TOKEN not in os.environ
    assert "MLFLOW_TRACKING_URI" not in os.environ
