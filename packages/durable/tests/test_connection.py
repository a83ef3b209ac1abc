"""The keyword `durable`."""

import os

import pytest

from mlflow_connections import (
    InvalidOptionError,
    MissingOptionError,
    UnknownConnectionError,
    resolve,
    use,
)
from mlflow_connections_durable._connection import SERVER_VARIABLE, VARIABLE


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from an environment without settings."""
    for name in (
        "MLFLOW_TRACKING_URI",
        "MLFLOW_REGISTRY_URI",
        VARIABLE,
        SERVER_VARIABLE,
        "MLFLOW_TRACKING_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)


def test_it_returns_a_durable_uri() -> None:
    """The server is part of the tracking URI, and of the environment for children."""
    endpoint = resolve("durable", {}, {"server": "https://m"})
    assert endpoint.tracking_uri == "durable+https://m"
    assert endpoint.environment == {SERVER_VARIABLE: "https://m"}


def test_the_registry_is_named_unless_one_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow then need not derive it in each call; the user's own choice, and Databricks', stay."""
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    assert resolve("durable", {}, {"server": "https://m"}).registry_uri == "durable+https://m"
    assert resolve("durable", {}, {"server": "databricks"}).registry_uri is None
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "https://other")
    assert resolve("durable", {}, {"server": "https://m"}).registry_uri is None


def test_a_registry_uri_outlives_the_tracking_uri() -> None:
    """MLflow's registry follows its tracking URI only while none is set, so no other connection sets one."""
    import mlflow

    with use("http://first"):
        mlflow.set_tracking_uri("http://second")
        assert mlflow.get_registry_uri() == "http://second"
        mlflow.set_registry_uri("http://first")
        mlflow.set_tracking_uri("http://third")
        assert mlflow.get_registry_uri() == "http://first"


def test_the_environment_may_name_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell needs no option."""
    monkeypatch.setenv(SERVER_VARIABLE, "https://m")
    assert resolve("durable").tracking_uri == "durable+https://m"


def test_offline_is_a_server_too() -> None:
    """No server is resolved for it."""
    assert resolve("durable", {}, {"server": "offline"}).tracking_uri == "durable://offline"


def test_a_server_that_mlflow_recognizes_by_its_uri_keeps_it() -> None:
    """Its tracking URI stays, and a variable names the durable one."""
    endpoint = resolve("durable", {}, {"server": "databricks"})
    assert endpoint.tracking_uri == "databricks"
    assert endpoint.environment[VARIABLE] == "durable://?server=databricks"


@pytest.mark.parametrize("server", ["durable", "durable+https://m", "durable://offline"])
def test_a_durable_server_is_refused_as_the_server(server: str) -> None:
    """A durable server behind a durable one is an error."""
    with pytest.raises(InvalidOptionError, match="must name an MLflow server"):
        resolve("durable", {}, {"server": server})


@pytest.mark.parametrize(
    "server", ["sqlite:///mlflow.db", "./mlruns", "file:///tmp/x", "postgresql+psycopg2://u@h/d"]
)
def test_a_database_or_a_folder_is_refused(server: str) -> None:
    """A store of this process cannot be down, so the message suggests using it alone."""
    with pytest.raises(InvalidOptionError, match="not a server that could be down"):
        resolve("durable", {}, {"server": server})


def test_an_invalid_server_is_one_sentence() -> None:
    """An unknown keyword and a URI without a host are named as such."""
    with pytest.raises(UnknownConnectionError, match="'nonsense' is not the keyword") as caught:
        resolve("durable", {}, {"server": "nonsense"})
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidOptionError, match="'http://', which names no host"):
        resolve("durable", {}, {"server": "http://"})


def test_the_server_must_be_named() -> None:
    """The error names the option."""
    with pytest.raises(MissingOptionError, match="server"):
        resolve("durable", {}, {})


def test_the_server_in_force_stays_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durable in front of the current server is no other server, so the experiment stays."""
    with use("http://m:5000"):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
        with use("durable", {}, {"server": "http://m:5000"}):
            assert os.environ["MLFLOW_EXPERIMENT_NAME"] == "mine"
        with use("durable", {}, {"server": "http://other"}):
            assert "MLFLOW_EXPERIMENT_NAME" not in os.environ
