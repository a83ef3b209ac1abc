"""The composite URI of a mirror."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections import InvalidOptionError
from mlflow_connections_mirror._uri import MirrorUri, parse

SERVERS = [
    "https://mlflow.acme.com/base?a=b&c=d",
    "sqlite:////tmp/a%b c.db",
    "postgresql+psycopg2://user:p%40ss@db/mlflow?sslmode=require&x=1",
    "databricks://profile",
]


@given(primary=st.sampled_from([*SERVERS, None]), copy=st.sampled_from(["http://copy", "./copy"]))
def test_any_two_servers_survive_quoting(primary: str | None, copy: str) -> None:
    """A written URI is read back equal."""
    uri = MirrorUri(primary, copy)
    assert parse(str(uri)) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost",
        "mirror://",
        "mirror://host?copy=http%3A%2F%2Fm",
        "mirror://?copy=http://m&other=1",
        "mirror://?primary=http://m&copy=http://m",
    ],
)
def test_invalid_uris_are_refused(uri: str) -> None:
    """No copy, a host, an unknown parameter, or one server twice is an error."""
    with pytest.raises(InvalidOptionError):
        parse(uri)


def test_credentials_are_never_shown() -> None:
    """Neither the repr nor an error message shows a password."""
    assert "hidden" not in repr(MirrorUri("http://me:hidden@m", "http://me:hidden@c"))
    with pytest.raises(InvalidOptionError) as caught:
        parse("mirror://?copy=http%3A%2F%2Fme%3Ahidden%40m&other=1")
    assert "hidden" not in str(caught.value)
