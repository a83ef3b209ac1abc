"""Invalid settings each get one clear sentence that names the file and the fix and shows no secret."""

import re
from typing import TYPE_CHECKING, Any

import pytest

from mlflow_connections import ConnectionsError

if TYPE_CHECKING:
    from packages.kedro.tests.conftest import Project

BASE = "conf/base/mlflow.yml"


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ([1], f"'server' in {BASE} must be a mapping of keys to values, not a list."),
        ("text", f"'server' in {BASE} must be a mapping of keys to values, not text."),
        ({"tracking_uri": 5}, f"'server.tracking_uri' in {BASE} must be .*, not the number 5."),
        ({"tracking_uri": ""}, f"'server.tracking_uri' in {BASE} must be .*, not an empty text."),
        ({"registry_uri": ["a"]}, f"'server.registry_uri' in {BASE} must be .*, not a list."),
        (
            {"tracking_uri": "http://u:pw@a", "mlflow_tracking_uri": "http://b"},
            (
                r"server.tracking_uri \('http://\*\*\*@a'\) and server.mlflow_tracking_uri "
                rf"\('http://b'\) in {BASE} disagree: keep server.tracking_uri only."
            ),
        ),
        (
            {"connection": {"workspace": "w"}},
            (
                f"'server.connection' in {BASE} has 'workspace', but no connection is named: write its "
                "keyword under server.tracking_uri."
            ),
        ),
        (
            {"tracking_uri": "http://a", "connection": {"workspace": "w"}},
            (
                rf"'server.connection' in {BASE} has 'workspace', but 'http://a' \(server.tracking_uri in "
                rf"{BASE}\) is not the keyword of a connection: write a keyword there, or remove"
            ),
        ),
        (
            {"tracking_uri": "lake", "connection": ["a"]},
            f"'server.connection' in {BASE} must be a mapping of options to values, not a list.",
        ),
        (
            {"tracking_uri": "lake", "credentials": {"token": "t-0815"}},
            (
                f"'server.credentials' in {BASE} must be the name of an entry of credentials.yml, not a "
                "mapping."
            ),
        ),
        (
            {"tracking_uri": "lake", "credentials": "typo"},
            (
                f"'server.credentials' in {BASE} names 'typo', which is not an entry of the project's "
                r"credentials \(there are broken, dev, words\)."
            ),
        ),
        (
            {"tracking_uri": "lake", "credentials": "broken"},
            "entry 'broken' of conf/local/credentials.yml must be a mapping",
        ),
        (
            {"tracking_uri": "lake", "credentials": "words"},
            "'MLFLOW_TRACKING_TOKEN' in entry 'words' of conf/local/credentials.yml must be text",
        ),
        (
            {"tracking_uri": "declared", "connection": {"region": "eu", "token": "t-0815"}},
            f"'token' in server.connection in {BASE} belongs in the credentials: move it",
        ),
        (
            {"tracking_uri": "declared"},
            (
                f"'region' is not in server.connection in {BASE}; 'workspace' is neither in "
                f"server.connection in {BASE} nor in the environment variable DECLARED_WORKSPACE. "
                "2 values are missing."
            ),
        ),
        (
            {"tracking_uri": "declared", "connection": {"region": "mars", "workspace": "w"}},
            f"'region' in server.connection in {BASE} must be one of eu, us.",
        ),
        (
            {"tracking_uri": "declred"},
            (
                f"server.tracking_uri in {BASE}: 'declred' is not the keyword of an installed connection .* "
                "Did you mean 'declared'"
            ),
        ),
        (
            {"mlflow_tracking_uri": "azureml"},
            f"server.mlflow_tracking_uri in {BASE}: .* Run: pip install mlflow-connections-azureml.",
        ),
        (
            {"tracking_uri": "sqlite:///x.db", "registry_uri": "empty"},
            rf"server.registry_uri in {BASE}: plugins_module.Empty.tracking_uri\(\) returned an empty",
        ),
        (
            {"traking_uri": "lake"},
            f"'server.traking_uri' in {BASE} is an unknown key; did you mean 'tracking_uri'",
        ),
        (
            {"whatever": 1},
            f"'server.whatever' in {BASE} is an unknown key; it takes tracking_uri, ",
        ),
    ],
)
def test_sentence(project: "Project", server: Any, said: str) -> None:
    """The whole message is one sentence or two, and no state has changed."""
    import os

    project.write("base/mlflow.yml", {"server": server})
    project.write(
        "local/credentials.yml",
        {"dev": {}, "broken": "t-0815", "words": {"MLFLOW_TRACKING_TOKEN": ["t-0815"]}},
    )
    before = dict(os.environ)
    with pytest.raises(ConnectionsError) as caught:
        project.context()
    assert re.match(said, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    assert "t-0815" not in str(caught.value)
    assert dict(os.environ) == before


def test_file_of_the_environment_is_named(project: "Project") -> None:
    """The message names the environment's file if that replaces base's key."""
    project.server(tracking_uri="lake", connection={"database": "x"})
    project.server("prod", tracking_uri="nobody")
    with pytest.raises(ConnectionsError, match=r"server.tracking_uri in conf/prod/mlflow.yml"):
        project.context("prod")


def test_file_of_base_is_named(project: "Project") -> None:
    """The message names base's file if the environment has none, or another key."""
    project.server(tracking_uri="nobody")
    project.write("prod/mlflow.yml", {"tracking": {}})
    with pytest.raises(ConnectionsError, match=r"server.tracking_uri in conf/base/mlflow.yml"):
        project.context("prod")


def test_one_of_several_files_is_named(project: "Project") -> None:
    """Of several files in a folder, the message names the one that contains the key."""
    project.write("base/mlflow_ui.yml", {"ui": {"port": "1"}})
    project.write("base/deep/mlflow.yml", {"server": {"tracking_uri": "nobody"}})
    with pytest.raises(ConnectionsError, match=r"in conf/base/deep/mlflow.yml"):
        project.context()


def test_softly_merged_files_are_distinguished(project: "Project") -> None:
    """With Kedro's soft merge each key is reported with the file that contains it."""
    project.server(connection={"region": "mars"})
    project.server("prod", tracking_uri="declared")
    with pytest.raises(ConnectionsError, match=r"server.connection in conf/base/mlflow.yml"):
        project.context("prod", merge_strategy={"mlflow": "soft"})


def test_variable_is_named(project: "Project", monkeypatch: pytest.MonkeyPatch) -> None:
    """An error about a keyword from the environment names its variable."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "azureml")
    with pytest.raises(ConnectionsError, match=r"^the environment variable MLFLOW_TRACKING_URI: "):
        project.context()
