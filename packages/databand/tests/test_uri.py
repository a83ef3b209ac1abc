"""The composite URI, in the specification's form and in people's forms."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections import InvalidOptionError
from mlflow_connections_databand._uri import CompositeUri, is_databand, parse, read_databand_url

SPECIFIED = (
    "dbnd://localhost:8080?duplicate_tracking_to=http%253A%252F%252Fmlflow-store%253A80%252F"
)


def test_it_has_the_specifications_form() -> None:
    """The specification's configuration returns the specification's URI."""
    uri = read_databand_url("http://localhost:8080")._replace(inner="http://mlflow-store/")
    assert str(uri) == SPECIFIED


def test_the_specifications_uri_is_read() -> None:
    """The inner URI, quoted twice, is read back."""
    assert parse(SPECIFIED) == CompositeUri("http://localhost:8080", "http://mlflow-store:80/")


def test_it_is_read_quoted_once_too() -> None:
    """A single quoting is accepted, and a harmless URI may stay unquoted."""
    assert parse(f"dbnd://h?duplicate_tracking_to={quote('http://m:5000', safe='')}").inner == (
        "http://m:5000"
    )
    assert parse("dbnd://h?duplicate_tracking_to=sqlite:///a%20b.db").inner == "sqlite:///a b.db"


@pytest.mark.parametrize(
    ("scheme", "http"),
    [("dbnd", "http"), ("databand", "http"), ("dbnd+s", "https"), ("databand+s", "https")],
)
def test_each_scheme_names_its_protocol(scheme: str, http: str) -> None:
    """A scheme with +s is https, one without is http."""
    assert parse(f"{scheme}://host/base/").databand_url == f"{http}://host/base"
    assert parse(f"{scheme}://host/base/").inner is None
    assert is_databand(f"{scheme}://host")


@given(
    inner=st.sampled_from(
        [
            "sqlite:////tmp/a%b c.db",
            "postgresql+psycopg2://user:p%40ss@db/mlflow?sslmode=require&x=1",
            "./mlruns",
            "databricks://profile",
            "https://mlflow.example.com:443/base?a=b#c",
            "arn:aws:sagemaker:eu-west-1:1:mlflow-tracking-server/s",
        ]
    ),
    port=st.integers(1, 65_535),
    secure=st.booleans(),
)
def test_a_written_uri_is_read_back(inner: str, port: int, secure: bool) -> None:
    """Any store survives the quoting."""
    url = f"http{'s' * secure}://databand.example.com:{port}"
    uri = CompositeUri(url, inner)
    assert parse(str(uri)) == uri


def test_credentials_are_parsed_out_of_databands_address_and_never_shown() -> None:
    """User and password are separate, survive writing, and are hidden from repr."""
    uri = parse("dbnd+s://me:p%40ss@acme.databand.ai?duplicate_tracking_to=http://u:hid@m")
    assert uri.databand_url == "https://acme.databand.ai"
    assert (uri.username, uri.password) == ("me", "p@ss")
    assert parse(str(uri)).password == "p@ss"
    assert "p@ss" not in repr(uri)
    assert "hid" not in repr(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost",
        "dbnd://",
        "dbnd://h?duplicate_tracking_to=http://m?a=1&b=2",
        "dbnd://h?duplicate_tracking_to=dbnd%3A%2F%2Fother",
    ],
)
def test_invalid_uris_are_refused(uri: str) -> None:
    """A missing Databand, an unknown query parameter and Databand as its own store are errors."""
    with pytest.raises(InvalidOptionError):
        parse(uri)


def test_a_refusal_shows_no_secret() -> None:
    """The message contains the place and not the password."""
    with pytest.raises(InvalidOptionError) as caught:
        parse("dbnd://me:hidden@h?password=alsohidden")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://h", "https://h?x=1", ""])
def test_an_invalid_address_is_refused(url: str) -> None:
    """Databand's address needs http or https and a host."""
    with pytest.raises(InvalidOptionError, match="databand_url"):
        read_databand_url(url)
