"""Data between nodes: pickles, uploaded files, and data that Snowflake cannot use."""

import io
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kedro.io import AbstractDataset, DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import node, pipeline

from mlflow_connections import ConnectionsError
from mlflow_connections_snowflake._names import Identifier
from mlflow_connections_snowflake.kedro._data import (
    StagePickle,
    catalog_inside,
    files_to_bring,
    places_of,
    read_secret,
    travels,
)
from mlflow_connections_snowflake.kedro.datasets import SnowflakeStageFileDataset


class File(AbstractDataset[Any, Any]):
    """A dataset in a file, like those of kedro-datasets."""

    def __init__(self, filepath: str, protocol: str = "file") -> None:
        self._filepath = Path(filepath)
        self._protocol = protocol

    def load(self) -> Any:
        """Not called in these tests."""

    def save(self, data: Any) -> None:
        """Not called in these tests."""

    def _describe(self) -> dict[str, Any]:
        return {}


class Files:
    """Snowpark's file operations on a stage, reduced to the necessary ones."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    def put_stream(self, stream: io.BytesIO, place: str, **_: object) -> None:
        """Store a file."""
        self.stored[place] = stream.read()

    def get_stream(self, place: str) -> io.BytesIO:
        """Return a file."""
        return io.BytesIO(self.stored[place])


class Session:
    """A session with a stage."""

    def __init__(self) -> None:
        self.file = Files()


@pytest.fixture
def catalog(tmp_path: Path) -> DataCatalog:
    """A catalog with a file of the project, one in the cloud, one elsewhere, and one in memory."""
    (tmp_path / "raw.csv").write_text("1")
    return DataCatalog(
        {
            "raw": File(str(tmp_path / "raw.csv")),
            "cloud": File("bucket/x.csv", "s3"),
            "elsewhere": File("/elsewhere.csv"),
            "gone": File(str(tmp_path / "gone.csv")),
            "memory": MemoryDataset(),
            "params:a": MemoryDataset(1),
        }
    )


@pytest.mark.parametrize(
    ("dataset", "does"),
    [
        *(("unknown", True), ("memory", True), ("raw", False), ("cloud", False)),
        *(("params:a", False), ("params:unknown", False), ("parameters", False)),
    ],
)
def test_data_in_memory_travels(catalog: DataCatalog, dataset: str, does: bool) -> None:
    """A dataset of the catalog is unchanged, and parameters come from the configuration."""
    assert travels(catalog, dataset) is does


def function(*given: Any) -> Any:
    """A node's function."""
    return given


def test_files_of_the_project_are_uploaded(catalog: DataCatalog, tmp_path: Path) -> None:
    """A file that a pipeline reads is found, and a cloud file stays in place."""
    found = files_to_bring(
        pipeline([node(function, ["raw", "cloud", "params:a"], "memory")]), catalog, tmp_path
    )
    assert found == [tmp_path / "raw.csv"]


def test_folders_are_uploaded(tmp_path: Path) -> None:
    """A dataset of many files is uploaded with all of them."""
    (tmp_path / "parts/a").mkdir(parents=True)
    for name in ("parts/1.csv", "parts/a/2.csv"):
        (tmp_path / name).write_text(name)
    catalog = DataCatalog({"parts": File(str(tmp_path / "parts"))})
    found = files_to_bring(pipeline([node(function, "parts", "x")]), catalog, tmp_path)
    assert [path.name for path in found] == ["1.csv", "2.csv"]


@pytest.mark.parametrize(
    ("inputs", "output", "sentence"),
    [
        ("cloud", "raw", "'raw' is written to"),
        ("elsewhere", "x", "outside of the project"),
        ("gone", "x", "which does not exist"),
        ("unknown", "x", "'unknown' is in no catalog"),
    ],
)
def test_unusable_files_are_reported(
    catalog: DataCatalog, tmp_path: Path, inputs: str, output: str, sentence: str
) -> None:
    """A file that would be lost, or would not be found, is named before deployment."""
    with pytest.raises(ConnectionsError) as caught:
        files_to_bring(pipeline([node(function, inputs, output)]), catalog, tmp_path)
    assert sentence in str(caught.value)


@pytest.fixture
def pickled() -> Callable[[str], StagePickle]:
    """Creates datasets on one stage."""
    session: Any = Session()
    return lambda name: StagePickle(session, "@S/runs/1/data", name)


def test_anything_travels(pickled: Callable[[str], StagePickle]) -> None:
    """Data that one node saves is loaded by another, including anonymous functions."""
    pickled("a 'b' \\ /../").save({"f": lambda: 7})
    assert pickled("a 'b' \\ /../").load()["f"]() == 7
    assert ".." not in pickled("a 'b' \\ /../")._place


def test_transcoded_names_are_one_dataset(pickled: Callable[[str], StagePickle]) -> None:
    """Data saved as `x@pandas` is loaded as `x@numpy`."""
    pickled("x@pandas").save([1])
    assert pickled("x@numpy").load() == [1]


def test_unpicklable_data_is_reported(pickled: Callable[[str], StagePickle]) -> None:
    """An object that cannot be pickled is named, with the remedy."""
    with pytest.raises(DatasetError, match=r"'lock' cannot go to the next node, .* in the catalog"):
        pickled("lock").save(i for i in range(3))


CREDENTIALS = {"dev": {"account": "a", "password": "pa55word", "database": "D", "schema": "S"}}
TABLE = "snowflake.SnowparkTableDataset"


def test_entries_that_a_pipeline_does_not_use_are_ignored() -> None:
    """An entry with credentials is neither checked nor deployed if no node uses it."""
    conf = {
        "used": {"type": "pandas.CSVDataset", "filepath": "s3://b/x.csv"},
        "unused": {"type": "pandas.CSVDataset", "filepath": "s3://b/y.csv", "credentials": "dev"},
        "{name}_factory": {"type": "pandas.CSVDataset", "credentials": "dev"},
    }
    assert places_of(conf, {}, {"used", "other"}) == {}
    assert set(catalog_inside(conf, ["used", "other"], {})) == {"used"}


@pytest.mark.parametrize(
    ("entry", "label"),
    [
        ({"type": "pandas.CSVDataset", "credentials": "dev"}, "'dev'"),
        ({"type": "x.Cached", "dataset": {"type": "y", "credentials": "dev"}}, "'dev'"),
        ({"type": "pandas.SQLTableDataset", "credentials": {"con": "pa55word"}}, "in its entry"),
    ],
)
def test_credentials_that_stay_behind_are_refused(entry: dict[str, Any], label: str) -> None:
    """A dataset that needs credentials is named before deployment, without their values."""
    for conf in ({"raw": entry}, {"{any}": entry}):
        with pytest.raises(ConnectionsError) as caught:
            places_of(conf, CREDENTIALS, {"raw"})
        assert f"'raw' needs the credentials {label}, which stay on this machine" in str(
            caught.value
        )
        assert "pa55word" not in str(caught.value)


def test_tables_use_the_procedures_session() -> None:
    """Only the place of a Snowpark dataset's credentials is deployed, and its entry stays usable."""
    conf = {"t": {"type": TABLE, "table_name": "T", "credentials": "dev"}}
    places = places_of(conf, CREDENTIALS, {"t"})
    assert places == {"t": {"session": {"database": "D", "schema": "S"}}}
    inside = catalog_inside(conf, ["t"], places)
    assert inside["t"]["credentials"] == {"account": "-", "database": "D", "schema": "S"}
    assert "pa55word" not in str(inside)
    factory = {"{name}_table": {"type": TABLE, "table_name": "{name}", "credentials": "dev"}}
    places = places_of(factory, CREDENTIALS, {"wine_table"})
    made = catalog_inside(factory, ["wine_table"], places)["wine_table"]
    assert (made["table_name"], made["credentials"]["schema"]) == ("wine", "S")


STAGES = {
    "s3://b/": Identifier(("D", "S", "ALL")),
    "s3://b/raw/": Identifier(("D", "S", "RAW")),
}


@pytest.mark.parametrize("is_factory", [False, True])
def test_a_location_with_a_stage_needs_no_credentials(is_factory: bool) -> None:
    """A file below a location of `stages` is read and written through that stage, with its own arguments."""
    name = "{name}" if is_factory else "wine"
    entry = {
        "type": "pandas.CSVDataset",
        "filepath": f"s3://b/raw/{name}.csv",
        "credentials": "dev",
        "fs_args": {"x": 1},
        "load_args": {"sep": ";"},
    }
    conf = {name: entry, "other": {"type": "pandas.CSVDataset", "filepath": "s3://b/y.csv"}}
    places = places_of(
        conf,
        CREDENTIALS,
        {"wine", "other"},
        stages=STAGES,
        internal_stage=Identifier(("D", "S", "CODE")),
    )
    made = catalog_inside(conf, ["wine", "other"], places)
    assert made["wine"] == {
        "type": "mlflow_connections_snowflake.kedro.datasets.SnowflakeStageFileDataset",
        "stage": "@D.S.RAW",
        "filepath": "wine.csv",
        "internal_stage": "@D.S.CODE",
        "dataset": {"type": "pandas.CSVDataset", "load_args": {"sep": ";"}},
    }
    assert made["other"]["stage"] == "@D.S.ALL"
    catalog: Any = DataCatalog.from_config(made)
    assert [catalog.get(one)._place for one in ("wine", "other")] == [
        "@D.S.RAW/wine.csv",
        "@D.S.ALL/y.csv",
    ]


def test_a_version_on_a_stage_is_refused() -> None:
    """A versioned file would lose its versions, so it is named before deployment."""
    conf = {"wine": {"type": "pandas.CSVDataset", "filepath": "s3://b/x.csv", "versioned": True}}
    with pytest.raises(ConnectionsError, match="'wine' is versioned"):
        places_of(conf, {}, {"wine"}, stages=STAGES)


def test_credentials_in_a_secret_are_read_inside_snowflake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry is unchanged: in the procedure its credentials come from the secret, also those of an inner dataset."""
    conf = {
        "service": {"type": "x.Api", "url": "https://x", "credentials": "dev"},
        "cached": {"type": "x.Cached", "credentials": "dev", "dataset": {"credentials": "two"}},
    }
    with pytest.raises(ConnectionsError, match="'cached' needs the credentials 'two'"):
        places_of(conf, CREDENTIALS, {"cached"}, secrets={"dev"})
    places = places_of(conf, CREDENTIALS, set(conf), secrets={"dev", "two"})
    assert "pa55word" not in str(places)
    here = catalog_inside(conf, list(conf), places)
    made: Any = DataCatalog.from_config(here)
    assert not travels(made, "service")
    for use in (made.get("service").load, lambda: made.get("service").save(1)):
        with pytest.raises(DatasetError, match="in Snowflake alone"):
            use()
    read: list[str] = []

    def read_secret(name: str) -> dict[str, str]:
        read.append(name)
        return {"key": name.upper()}

    inside = catalog_inside(conf, ["service"], places, read_secret)
    assert read == ["dev"]
    assert inside["service"] == {
        "type": "x.Api",
        "url": "https://x",
        "credentials": {"key": "DEV"},
    }
    inside = catalog_inside(conf, ["cached"], places, read_secret)["cached"]
    assert (inside["credentials"], inside["dataset"]["credentials"]) == (
        {"key": "DEV"},
        {"key": "TWO"},
    )


class Secrets:
    """Snowpark's secrets inside a procedure, one of each type."""

    def get_secret_type(self, name: str) -> str:
        """Return the type, which is the last part of this secret's name."""
        return name.rpartition("_")[2].upper()

    def get_username_password(self, name: str) -> types.SimpleNamespace:
        """Return a PASSWORD."""
        return types.SimpleNamespace(username="u", password="p")

    def get_generic_secret_string(self, name: str) -> str:
        """Return a GENERIC_STRING."""
        return {"credentials_good": '{"key": "k"}', "credentials_list": "[1]"}.get(name, "pa55word")


def test_secrets_hold_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PASSWORD is a user name and a password, other text must be JSON; a refusal shows no value."""
    secrets = Secrets()
    snowpark = pytest.importorskip("snowflake.snowpark")
    monkeypatch.setattr(snowpark, "secrets", secrets, raising=False)
    assert read_secret("password") == {"username": "u", "password": "p"}
    monkeypatch.setattr(secrets, "get_secret_type", lambda name: "GENERIC_STRING")
    assert read_secret("good") == {"key": "k"}
    for wrong in ("list", "text"):
        with pytest.raises(ConnectionsError, match=f"credentials '{wrong}' is not usable") as told:
            read_secret(wrong)
        assert "pa55word" not in str(told.value)
    monkeypatch.setattr(secrets, "get_secret_type", lambda name: "OAUTH2")
    with pytest.raises(ConnectionsError, match="not usable"):
        read_secret("good")


def test_a_file_on_a_stage_keeps_its_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Kedro makes the path absolute in any project folder; the path on the stage stays the same."""
    monkeypatch.chdir(tmp_path)
    for filepath in ("a/b c.csv", f"{tmp_path.as_posix()}/a/b c.csv", "/a/b c.csv"):
        made = SnowflakeStageFileDataset(
            stage="@files",
            filepath=filepath,
            dataset="pandas.CSVDataset",
            credentials={"database": "db", "schema": "s"},
        )
        assert made._place == "@DB.S.FILES/a/b c.csv"
        assert not travels(DataCatalog({"made": made}), "made")


def test_a_file_on_a_stage_has_one_path(tmp_path: Path) -> None:
    """A path or a version in the inner definition, which would be local, is refused."""
    for wrong in ({"filepath": "x"}, {"versioned": True}):
        with pytest.raises(DatasetError, match="must have neither"):
            SnowflakeStageFileDataset(
                stage="@s", filepath="x", dataset={"type": "pandas.CSVDataset", **wrong}
            )
