"""Files on stages, moved by the real connector."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from snowflake.connector.errors import ProgrammingError

from mlflow_connections_sandbox._snowflake import Snowflake

Run = Callable[..., list[tuple[Any, ...]]]

_PROVIDERS = {
    "S3": ("s3://mlflow-sandbox/", "STORAGE_AWS_ROLE_ARN = 'arn:aws:iam::123456789012:role/r'"),
    "GCS": ("gcs://mlflow-sandbox/", ""),
    "AZURE": (
        "azure://mlflowsandbox.blob.core.windows.net/mlflow/",
        "AZURE_TENANT_ID = '11111111-2222-3333-4444-555555555555'",
    ),
}


def _external(run: Run, provider: str) -> None:
    location, more = _PROVIDERS[provider]
    run(
        f"CREATE STORAGE INTEGRATION s TYPE = EXTERNAL_STAGE STORAGE_PROVIDER = '{provider}' {more}"
        f" ENABLED = TRUE STORAGE_ALLOWED_LOCATIONS = ('{location}')"
    )
    run(f"CREATE STAGE outside URL = '{location}' STORAGE_INTEGRATION = s")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with two files that have difficult names."""
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    (folder / "a b.txt").write_text("one")
    (folder / "ä.txt").write_text("two")
    return folder


def test_files_come_back_unchanged(run: Run, files: Path, tmp_path: Path) -> None:
    """PUT, LIST, GET and REMOVE work on an internal stage."""
    run('CREATE STAGE "My Stage"')
    for path in files.iterdir():
        place = f"file://{path}".replace("'", "\\'")
        run(f"PUT '{place}' '@\"My Stage\"/deep/er' AUTO_COMPRESS = FALSE")
    listed = run('LIST @"My Stage"')
    assert [row[0] for row in listed] == ["my stage/deep/er/a b.txt", "my stage/deep/er/ä.txt"]
    back = tmp_path / "back"
    back.mkdir()
    run(f"GET '@\"My Stage\"/deep' 'file://{back}/'")
    assert {p.name: p.read_text() for p in back.iterdir()} == {"a b.txt": "one", "ä.txt": "two"}
    assert len(run("REMOVE '@\"My Stage\"/deep/er/' PATTERN = '.*a b.*'")) == 1
    assert len(run('LS @"My Stage"')) == 1


def test_a_bound_stage_is_found(run: Run, tmp_path: Path) -> None:
    """A stage can be a bound value, as in Snowpark's streams."""
    (tmp_path / "f").write_text("x")
    run("CREATE STAGE s")
    run(f"PUT 'file://{tmp_path / 'f'}' ?", "@DEMO.DEMO.S/there")
    assert run("LIST @s")[0][0] == "s/there/f.gz"


@pytest.mark.parametrize("provider", _PROVIDERS)
def test_artifacts_arrive_where_mlflow_looks(
    stand_in: Snowflake, run: Run, files: Path, tmp_path: Path, provider: str
) -> None:
    """COPY FILES copies a folder from an internal stage to MLflow's artifact root, once trusted."""
    _external(run, provider)
    run("CREATE STAGE inside")
    place = f"file://{files / 'a b.txt'}".replace("'", "\\'")
    run(f"PUT '{place}' @inside/run/model AUTO_COMPRESS = FALSE")
    copy = "COPY FILES INTO @outside/0/abc/artifacts/ FROM @inside/run/"
    with pytest.raises(ProgrammingError, match="trust"):
        run(copy)
    stand_in.trust("S")
    assert run(copy) == [("0/abc/artifacts/model/a b.txt",)]
    assert (tmp_path / "artifacts/0/abc/artifacts/model/a b.txt").read_text() == "one"
    assert run("LIST @outside")[0][0].startswith(_PROVIDERS[provider][0])


_NAMES = ", ".join(["'x'"] * 1001)


@pytest.mark.parametrize("command", ["PUT 'file://{}/f' @outside", "GET @outside 'file://{}'"])
def test_a_client_reaches_no_external_stage(
    stand_in: Snowflake, run: Run, tmp_path: Path, command: str
) -> None:
    """PUT to an external stage and GET from one are refused."""
    _external(run, "S3")
    stand_in.trust("S")
    (tmp_path / "f").write_text("x")
    with pytest.raises(ProgrammingError, match="external stage") as refused:
        run(command.format(tmp_path))
    assert refused.value.errno == 91003


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("CREATE STAGE e URL = 's3://elsewhere/' STORAGE_INTEGRATION = s", "not allowed"),
        ("LIST @nothing", "NOTHING"),
        ("LIST '@inside/../..'", "leaves the stage"),
        ("COPY FILES INTO @inside FROM (SELECT 1)", "'1' is no stage"),
        ("COPY FILES INTO @inside FROM (SELECT '@inside/x'", "syntax error"),
        ("COPY FILES INTO @inside FROM (SELECT '@inside/x', '../y')", "leaves the stage"),
        (f"COPY FILES INTO @inside FROM @inside FILES = ({_NAMES})", "1000"),
        ("COPY FILES INTO @~ FROM @inside", "~"),
        ("COPY FILES INTO @inside FROM @%t", "%t"),
        ("PUT 'ftp://x' @inside", "file://"),
    ],
)
def test_invalid_places_are_refused(run: Run, sql: str, words: str) -> None:
    """A location, stage, path or file that is not allowed or missing is named."""
    _external(run, "S3")
    run("CREATE STAGE inside")
    with pytest.raises(ProgrammingError, match=words):
        run(sql)


def test_files_are_copied_by_name_and_by_query(run: Run, tmp_path: Path) -> None:
    """FILES and the rows of a query name files, a second column new names; missing files are skipped silently."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    run("CREATE STAGE inside")
    run("CREATE STAGE other")
    run("CREATE TABLE files (url VARCHAR, name VARCHAR)")
    run(f"PUT 'file://{tmp_path}/*.txt' @inside/in AUTO_COMPRESS = FALSE")
    copied = run("COPY FILES INTO @other/one FROM @inside/in/ FILES = ('a.txt', 'missing')")
    assert copied == [("one/a.txt",)]
    run(
        "INSERT INTO files VALUES ('@inside/in/a.txt', 'new/it''s.txt'), ('@inside/in/b.txt', NULL)"
    )
    run("INSERT INTO files VALUES ('@inside/missing', 'x')")
    copied = run("COPY FILES INTO @other/two/ FROM (SELECT url, name FROM files ORDER BY 1)")
    assert copied == [("two/new/it's.txt",), ("two/b.txt",)]
    assert run("COPY FILES INTO @other FROM (SELECT '@inside/in/a.txt')") == [("a.txt",)]
    assert {row[0] for row in run("LIST @other")} == {
        *("other/one/a.txt", "other/two/new/it's.txt", "other/two/b.txt", "other/a.txt"),
    }


def test_a_replaced_stage_is_empty(run: Run, tmp_path: Path) -> None:
    """OR REPLACE and DROP delete an internal stage's files."""
    (tmp_path / "f").write_text("x")
    run("CREATE STAGE s")
    run(f"PUT 'file://{tmp_path / 'f'}' @s")
    run("CREATE OR REPLACE STAGE s")
    assert run("LIST @s") == []
