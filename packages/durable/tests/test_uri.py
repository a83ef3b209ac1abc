"""The durable URIs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections import InvalidOptionError
from mlflow_connections_durable._uri import DurableUri, parse

SERVERS = [
    "https://mlflow.acme.com/base?a=b&c=d",
    "http://localhost:5000",
    "databricks://profile",
    "databricks",
    "azureml://eastus.api.azureml.ms/mlflow/v1.0/subscriptions/1",
    "arn:aws:sagemaker:us-east-1:1:mlflow-tracking-server/a",
    "offline",
]


@given(server=st.sampled_from(SERVERS))
def test_any_server_survives_quoting(server: str) -> None:
    """A written URI is read back."""
    assert parse(str(DurableUri(server))) == DurableUri(server)


def test_an_http_server_is_readable() -> None:
    """The scheme of the server is the second half of the URI's."""
    assert str(DurableUri("https://m")) == "durable+https://m"
    assert parse("DURABLE+HTTPS://m").server == "https://m"


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost",
        "durable://",
        "durable+https://",
        "durable+ftp://m",
        "durable://host?server=http%3A%2F%2Fm",
        "durable://?server=",
        "durable://?server=x&other=1",
    ],
)
def test_invalid_uris_are_refused(uri: str) -> None:
    """No server, another scheme, a host or an unknown parameter is an error."""
    with pytest.raises(InvalidOptionError, match="is not a durable URI"):
        parse(uri)


def test_credentials_are_never_shown() -> None:
    """The repr hides a password; the URI for MLflow contains it."""
    uri = parse("durable+https://me:hidden@m")
    assert "hidden" not in repr(uri)
    assert uri.server == "https://me:hidden@m"
