"""The bridge in a tracking URI, and the mapping between MLflow's own URIs and the stage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections import InvalidOptionError
from mlflow_connections_snowflake import BridgeConfig
from mlflow_connections_snowflake._names import Identifier
from mlflow_connections_snowflake.store import Bridge
from mlflow_connections_snowflake.store._uri import on_stage, original

PARTS = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), min_size=1)
NAMES = st.lists(PARTS, min_size=3, max_size=3).map(lambda parts: Identifier(tuple(parts)))


def test_default_names_make_a_short_uri() -> None:
    """If all names are the defaults, the URI contains none."""
    assert Bridge.named(None).uri() == "snowflake://"
    assert Bridge.named(Identifier(("DEMO", "ML"))).uri() == "snowflake://?schema=DEMO.ML"


def test_a_setup_survives_the_uri(setup: BridgeConfig) -> None:
    """The URI keeps the whole configuration of the bridge, for every cloud."""
    bridge = Bridge.of(setup, connection="dev", flush_seconds=0.5)
    assert Bridge.from_uri(bridge.uri()) == (bridge, "")
    assert bridge.location == (setup.storage.location if setup.storage else "")


@given(function=NAMES, stage=NAMES, path=PARTS, location=PARTS)
def test_any_name_survives_the_uri(
    function: Identifier, stage: Identifier, path: str, location: str
) -> None:
    """Names and paths of any characters arrive byte for byte."""
    plain = Bridge.named(Identifier(("D", "S")))
    bridge = plain.changed(
        functions={**plain.functions, "run_update": function, "call": stage},
        stage=stage,
        location=location,
        uploads=function,
    )
    read, read_path = Bridge.from_uri(bridge.uri(path.lstrip("/")))
    assert (read, read_path) == (bridge, path.lstrip("/"))
    assert read.functions == bridge.functions


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("snowflake://user:pw@account/db", "a host"),
        ("snowflake://?stages=X", "unknown 'stages'"),
        ("snowflake://?run_create=a;drop", "not the name of a Snowflake object"),
        ("snowflake://?stage=a'b", "not the name of a Snowflake object"),
        ("snowflake://?schema=a.b.c", "not the name of a Snowflake object"),
        ("snowflake://?flush_seconds=soon", "not a number of seconds"),
        ("snowflake://?flush_seconds=-1", "not a number of seconds"),
    ],
)
def test_invalid_uris_are_refused(uri: str, told: str) -> None:
    """A URI of an unknown form, or with an invalid name, is refused in one sentence."""
    with pytest.raises(InvalidOptionError, match=told) as caught:
        Bridge.from_uri(uri)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "uri", "path"),
    [
        ("s3://b/ml/", "mlflow-artifacts:/1/r/artifacts", "1/r/artifacts"),
        ("s3://b/ml/", "mlflow-artifacts://host:5000/1/r/artifacts", "1/r/artifacts"),
        ("s3://b/ml/", "s3://b/ml/1/r/artifacts", "1/r/artifacts"),
        ("s3gov://b/", "s3://b/1/r/artifacts", "1/r/artifacts"),
        ("gcs://b/ml/", "gs://b/ml/1/r/artifacts", "1/r/artifacts"),
        (
            "azure://a.blob.core.windows.net/c/ml/",
            "wasbs://c@a.blob.core.windows.net/ml/1/r",
            "1/r",
        ),
        ("azure://a.blob.core.windows.net/c/", "abfss://c@a.dfs.core.windows.net/1/r", "1/r"),
        ("", "s3://b/ml/1/r/artifacts", "ml/1/r/artifacts"),
        ("", "mlflow-artifacts:/1/r/artifacts", "1/r/artifacts"),
    ],
)
def test_mlflows_uri_becomes_a_path_on_the_stage(location: str, uri: str, path: str) -> None:
    """Each form of MLflow's artifact root is recognized, and can be restored."""
    moved = on_stage(Bridge.named(None, location=location), uri)
    bridge, found = Bridge.from_uri(moved)
    assert found == path
    assert original(bridge, path) == uri
    assert on_stage(bridge, moved) == moved


@pytest.mark.parametrize("uri", ["s3://other/ml/1/r", "s3://b/mlx/1/r", "file:///mlruns/1/r", "/a"])
def test_a_uri_outside_of_the_stage_has_no_path(uri: str) -> None:
    """A URI outside of the stage's location is kept unchanged, for the error message."""
    bridge, path = Bridge.from_uri(on_stage(Bridge.named(None, location="s3://b/ml/"), uri))
    assert (path, bridge.root) == ("", uri)
