"""A project's configuration as the commands read it: files, environments, credentials."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from mlflow_connections import ConnectionsError
from mlflow_connections_snowflake.kedro import _project
from mlflow_connections_snowflake.kedro._project import open_project

SECTION = {"database": "D", "schema": "S", "warehouse": "W"}


@pytest.fixture
def metadata(tmp_path: Path) -> Any:
    """A project's folder, as Kedro found it, without settings for Snowflake."""
    for name in ("conf/base", "conf/local", "conf/prod", "src"):
        (tmp_path / name).mkdir(parents=True)
    return SimpleNamespace(package_name="wine", project_path=tmp_path, source_dir=tmp_path / "src")


def write(metadata: Any, path: str, content: object) -> None:
    """Write a file of the configuration."""
    (metadata.project_path / "conf" / path).write_text(yaml.safe_dump(content))


def test_an_environments_section_replaces_the_base(metadata: Any) -> None:
    """The environment decides, and a message names the file that was read."""
    write(metadata, "base/snowflake.yml", {"snowflake": {**SECTION, "retries": 2}})
    assert open_project(metadata, None, {}).settings.retries == 2
    write(metadata, "prod/snowflake.yml", {"snowflake": {**SECTION, "retrys": 3}})
    assert open_project(metadata, None, {}).env == "local"
    with pytest.raises(ConnectionsError) as caught:
        open_project(metadata, "prod", {})
    assert "conf/prod/snowflake.yml has the unknown key 'retrys'" in str(caught.value)
    assert "Did you mean 'retries'?" in str(caught.value)


def test_parameters_of_the_run_are_used(metadata: Any) -> None:
    """A value of snowflake.yml may be a parameter of the run."""
    section = {**SECTION, "warehouse": "${runtime_params:size, SMALL}"}
    write(metadata, "base/snowflake.yml", {"snowflake": section})
    assert str(open_project(metadata, None, {}).settings.warehouse) == "SMALL"
    assert str(open_project(metadata, None, {"size": "BIG"}).settings.warehouse) == "BIG"


@pytest.mark.parametrize("content", [None, {"mlflow": {}}])
def test_a_project_without_the_section_is_reported(metadata: Any, content: object) -> None:
    """Without the section, the error names the file that should have it."""
    if content is not None:
        write(metadata, "base/snowflake.yml", content)
    with pytest.raises(
        ConnectionsError, match=r"conf/base/snowflake.yml has no section 'snowflake'"
    ):
        open_project(metadata, None, {})


class Opened:
    """A session whose warehouse was selected."""

    warehouse = ""

    def use_warehouse(self, warehouse: str) -> None:
        """Select a warehouse."""
        self.warehouse = warehouse


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """Record the parameters of a session instead of opening it."""
    found: list[tuple[Any, Any]] = []

    def open_session(connection: Any = None, parameters: Any = None) -> Any:
        found.append((connection, parameters))
        return Opened()

    monkeypatch.setattr(_project, "open_session", open_session)
    return found


@pytest.mark.parametrize(
    ("named", "entries", "connection", "parameters"),
    [
        (None, None, None, None),
        (None, {"snowflake": None}, None, None),
        (None, {"snowflake": {"account": "a"}}, None, {"account": "a"}),
        ("mine", {"mine": {"account": "b"}, "snowflake": {"account": "a"}}, None, {"account": "b"}),
        ("mine", {"mine": {"account": "b"}}, "work", None),
    ],
)
def test_credentials_are_found(
    metadata: Any,
    opened: list[tuple[Any, Any]],
    named: str | None,
    entries: object,
    connection: str | None,
    parameters: object,
) -> None:
    """The named entry is used, else `snowflake`, else none; a connection on the command line takes precedence."""
    section = {**SECTION, **({"credentials": named} if named else {})}
    write(metadata, "base/snowflake.yml", {"snowflake": section})
    if entries is not None:
        write(metadata, "local/credentials.yml", entries)
    session: Any = open_project(metadata, None, {}).open_session(connection)
    assert session.warehouse == '"W"', "a user may have no default warehouse"
    assert opened == [(connection, parameters) if connection is None else (connection, None)]


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"other": {}}, "names 'mine', which is not an entry of the project's credentials.yml"),
        ({"mine": "pa55word"}, "must be a mapping of keys to values"),
    ],
)
def test_wrong_credentials_are_reported_and_not_shown(
    metadata: Any, entries: object, sentence: str
) -> None:
    """A missing entry, or one that is plain text, is one sentence without the text."""
    write(metadata, "base/snowflake.yml", {"snowflake": {**SECTION, "credentials": "mine"}})
    write(metadata, "local/credentials.yml", entries)
    with pytest.raises(ConnectionsError) as caught:
        open_project(metadata, None, {}).open_session(None)
    assert sentence in str(caught.value)
    assert "pa55word" not in str(caught.value)
