"""The data of a pipeline in Snowflake: what the catalog stores, and what travels between nodes.

Each node runs in a process of its own. Data that Kedro would keep in memory travels as a pickle on a
stage, a Snowpark DataFrame as a transient table. Credentials never leave the user's machine.
"""

import hashlib
import io
import pickle
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kedro.io import AbstractDataset, DatasetError, MemoryDataset

from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections.secrets import masked

from ._task_names import identifier_part

if TYPE_CHECKING:
    from kedro.pipeline import Pipeline
    from snowflake.snowpark import Session

    from ._task import TaskContext

_OWN_SESSION = ("SnowparkTableDataset", "SnowflakeStageFileDataset")
"""Datasets that use the procedure's own session, and so need no credentials in Snowflake."""


def is_parameter(dataset: str) -> bool:
    """Return whether a node's input is one of the project's parameters."""
    return dataset == "parameters" or dataset.startswith("params:")


def travels(catalog: Any, dataset: str) -> bool:
    """Return whether Kedro would keep a dataset in memory, so that it travels between processes."""
    if is_parameter(dataset):
        return False
    return dataset not in catalog or isinstance(catalog.get(dataset), MemoryDataset)


def used_entries(conf: Mapping[str, Any], datasets: Iterable[str]) -> dict[str, Any]:
    """Return the catalog's entries for some datasets: named ones, and dataset factories."""
    wanted = set(datasets)
    return {name: entry for name, entry in conf.items() if name in wanted or "{" in name}


def places_of(
    conf: Mapping[str, Any], credentials: Mapping[str, Any], datasets: Iterable[str]
) -> dict[str, dict[str, str]]:
    """Return the database and schema in the credentials of datasets that use Snowflake's session.

    Args:
        conf: The catalog's configuration.
        credentials: The entries of credentials.yml.
        datasets: The datasets of a pipeline.

    Raises:
        InvalidOptionError: Another dataset needs credentials, which stay on this machine.
    """
    found: dict[str, dict[str, str]] = {}
    for dataset in sorted(datasets):
        entry = _entry_of(conf, dataset)
        named = next(_credentials_in(entry), None)
        if named is None:
            continue
        if not str(entry.get("type", "")).endswith(_OWN_SESSION):
            raise InvalidOptionError(
                f"The catalog's {dataset!r} needs the credentials {_label(named)}, which stay on "
                "this machine. Keep it in Snowflake: as a table (snowflake.SnowparkTableDataset) "
                "or on a stage "
                "(mlflow_connections_snowflake.kedro.datasets.SnowflakeStageFileDataset, also over "
                "a storage integration)."
            )
        values = credentials.get(named) if isinstance(named, str) else named
        known = values if isinstance(values, Mapping) else {}
        found[dataset] = {
            key: str(known[key]) for key in ("database", "schema") if known.get(key) is not None
        }
    return found


def catalog_inside(
    conf: Mapping[str, Any], datasets: Iterable[str], places: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """Return the catalog for a node in Snowflake: its own entries, without named credentials."""
    entries: dict[str, Any] = {}
    for dataset in datasets:
        entry = _entry_of(conf, dataset)
        if dataset in places and isinstance(entry, Mapping):
            # Never empty: SnowparkTableDataset refuses empty credentials, and ignores these.
            entries[dataset] = {**entry, "credentials": {"account": "-", **places[dataset]}}
    kept = {
        name: entry
        for name, entry in used_entries(conf, datasets).items()
        if name not in entries and next(_credentials_in(entry), None) is None
    }
    return {**kept, **entries}


def _entry_of(conf: Mapping[str, Any], dataset: str) -> Mapping[str, Any]:
    """Return a dataset's entry, by its name or by the dataset factory that matches it."""
    entry = conf.get(dataset)
    if entry is None:
        from kedro.io.catalog_config_resolver import CatalogConfigResolver

        factories = {name: one for name, one in conf.items() if "{" in name}
        if factories and not is_parameter(dataset):
            # Without their credentials, which only a real catalog needs.
            resolver = CatalogConfigResolver(_without_credentials(factories))
            pattern = resolver.match_dataset_pattern(
                dataset
            ) or resolver.match_user_catch_all_pattern(dataset)
            if pattern:
                resolved = resolver.resolve_pattern(dataset)
                named = next(_credentials_in(factories[pattern]), None)
                entry = {**resolved, **({} if named is None else {"credentials": named})}
    return entry if isinstance(entry, Mapping) else {}


def _without_credentials(entry: Any) -> Any:
    if isinstance(entry, Mapping):
        return {k: _without_credentials(v) for k, v in entry.items() if k != "credentials"}
    return entry


def _credentials_in(entry: Any) -> Iterator[Any]:
    """Yield the credentials of an entry, also of a dataset inside it."""
    if isinstance(entry, Mapping):
        for key, value in entry.items():
            if key == "credentials" and value is not None:
                yield value
            else:
                yield from _credentials_in(value)


def _label(named: Any) -> str:
    # Credentials may be written into the catalog itself, and must not be shown.
    return repr(named) if isinstance(named, str) else "in its entry"


def files_to_bring(pipeline: "Pipeline", catalog: Any, project: Path) -> list[Path]:
    """Return the files of this machine that a pipeline reads, which go to Snowflake with its code.

    Raises:
        InvalidOptionError: The pipeline writes a file of this machine, which Snowflake does not
            have, or reads one outside of the project.
        MissingOptionError: A file does not exist, or an input is in no catalog.
    """
    for dataset in sorted(pipeline.all_outputs()):
        if (path := _local_path(catalog, dataset)) is not None:
            raise InvalidOptionError(
                f"The catalog's {dataset!r} is written to {path}, a file of this machine, and "
                "would be lost in Snowflake. Remove it from the catalog, and it travels between "
                "nodes on the stage, or store it in Snowflake or in the cloud."
            )
    found: list[Path] = []
    for dataset in sorted(pipeline.inputs()):
        if travels(catalog, dataset):
            raise MissingOptionError(
                f"The pipeline's input {dataset!r} is in no catalog, and no node makes it."
            )
        if (path := _local_path(catalog, dataset)) is not None:
            found += _files(dataset, path, project)
    return found


def _local_path(catalog: Any, dataset: str) -> Path | None:
    if is_parameter(dataset) or dataset not in catalog:
        return None
    found = catalog.get(dataset)
    if type(found).__name__ in _OWN_SESSION:
        return None
    found = getattr(found, "_dataset", found)  # the dataset inside a CachedDataset
    path = getattr(found, "_filepath", None) or getattr(found, "_path", None)
    if path is None or getattr(found, "_protocol", "file") not in {"file", "local"}:
        return None
    return Path(str(path).removeprefix("file://"))


def _files(dataset: str, path: Path, project: Path) -> list[Path]:
    path = path if path.is_absolute() else project / path
    if not path.resolve().is_relative_to(project.resolve()):
        raise InvalidOptionError(
            f"The catalog's {dataset!r} is read from {path}, outside of the project, so it cannot "
            "go to Snowflake with its code. Move it into the project or into the cloud."
        )
    files = [p for p in sorted(path.rglob("*")) if p.is_file()] if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise MissingOptionError(
            f"The catalog's {dataset!r} is read from {path}, which does not exist."
        )
    return files


class TableReference(NamedTuple):
    """A Snowpark DataFrame that travels as a transient table.

    Attributes:
        table: The table's name in SQL.
    """

    table: str


class StagePickle(AbstractDataset[Any, Any]):
    """Data that Kedro would keep in memory, as a pickle on a stage.

    Args:
        session: The procedure's session.
        folder: A place on a stage, `@stage/path`.
        dataset: The dataset's name, any text.
    """

    def __init__(self, session: "Session", folder: str, dataset: str) -> None:
        self._session = session
        self._name = dataset.partition("@")[0]  # a suffix selects how the same data is read
        digest = hashlib.sha256(self._name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        self._place = f"{folder}/{identifier_part(self._name).lower()}-{digest}.pickle"

    def load(self) -> Any:
        """Read the data."""
        with self._session.file.get_stream(self._place) as stream:
            return pickle.load(stream)  # noqa: S301 - a node of the same pipeline wrote it

    def save(self, data: Any) -> None:
        """Write the data over that of an earlier try."""
        import cloudpickle  # type: ignore[import-untyped]  # it has no types

        try:
            written = cloudpickle.dumps(data)
        except Exception as error:  # noqa: BLE001 - raised again
            raise DatasetError(
                f"{self._name!r} cannot go to the next node, since it cannot be pickled ({error}). "
                "Give it an entry in the catalog."
            ) from masked(error)
        self._session.file.put_stream(
            io.BytesIO(written), self._place, auto_compress=False, overwrite=True
        )

    def _describe(self) -> dict[str, Any]:
        return {"place": self._place}


class TravelingDataset(AbstractDataset[Any, Any]):
    """Data that Kedro would keep in memory: a transient table for Snowpark, else a pickle.

    Args:
        task: The run of the graph.
        dataset: The dataset's name, any text.
    """

    def __init__(self, task: "TaskContext", dataset: str) -> None:
        self._task = task
        self._dataset = dataset.partition("@")[0]
        self._pickle = StagePickle(task.session, task.data, dataset)

    def load(self) -> Any:
        """Read the data, a DataFrame from its table."""
        data = self._pickle.load()
        return self._task.session.table(data.table) if isinstance(data, TableReference) else data

    def save(self, data: Any) -> None:
        """Write the data over that of an earlier try, a DataFrame into a table."""
        from snowflake.snowpark import DataFrame

        if isinstance(data, DataFrame):
            table = self._task.table(self._dataset)
            self._task.note_table(table)
            data.write.mode("overwrite").save_as_table(table.sql, table_type="transient")
            data = TableReference(table.sql)
        self._pickle.save(data)

    def _describe(self) -> dict[str, Any]:
        return self._pickle._describe()
