"""The data of a pipeline in Snowflake: catalog entries, and data that passes between nodes.

Each node runs in its own process. Data that Kedro would keep in memory passes as a pickle on a
stage, a Snowpark DataFrame as a transient table. Credentials never leave the user's machine: an
external stage, a secret in Snowflake or the procedure's session replaces them.
"""

import hashlib
import io
import json
import pickle
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kedro.io import AbstractDataset, DatasetError, MemoryDataset

from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections.secrets import masked
from mlflow_connections_snowflake._names import Identifier

from ._task_names import identifier_part, secret_variable
from .datasets import SnowflakeStageFileDataset

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
    """Return whether Kedro would keep a dataset in memory, so that it must pass between processes."""
    if is_parameter(dataset):
        return False
    return dataset not in catalog or isinstance(catalog.get(dataset), MemoryDataset)


def used_entries(conf: Mapping[str, Any], datasets: Iterable[str]) -> dict[str, Any]:
    """Return the catalog's entries for some datasets: named ones and dataset factories."""
    wanted = set(datasets)
    return {name: entry for name, entry in conf.items() if name in wanted or "{" in name}


def places_of(
    conf: Mapping[str, Any],
    credentials: Mapping[str, Any],
    datasets: Iterable[str],
    *,
    stages: Mapping[str, Identifier] | None = None,
    secrets: Collection[str] = (),
    internal_stage: Identifier | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the replacement of each dataset's credentials in Snowflake.

    A file at a location with an external stage is reached through that stage; a dataset that uses
    Snowflake's session keeps the database and schema of its credentials; credentials stored as a
    secret in Snowflake are read from it.

    Args:
        conf: The catalog's configuration.
        credentials: The entries of credentials.yml.
        datasets: The datasets of a pipeline.
        stages: The external stage of each location, `s3://bucket/path/`.
        secrets: The entries of credentials.yml that are secrets in Snowflake.
        internal_stage: The internal stage that files of an external one pass through.

    Returns:
        For each dataset, one of `{"stage": …}`, `{"session": …}` and `{"secrets": …}`.

    Raises:
        InvalidOptionError: Nothing in Snowflake replaces the credentials of a dataset.
    """
    found: dict[str, dict[str, Any]] = {}
    for dataset in sorted(datasets):
        entry = _entry_of(conf, dataset)
        on_stage = _on_stage(dataset, entry, stages or {})
        if on_stage is not None:
            found[dataset] = {"stage": {**on_stage, "internal_stage": f"@{internal_stage}"}}
            continue
        named = list(_credentials_in(entry))
        if not named:
            continue
        if str(entry.get("type", "")).endswith(_OWN_SESSION):
            values = credentials.get(named[0]) if isinstance(named[0], str) else named[0]
            known = values if isinstance(values, Mapping) else {}
            place = {k: str(known[k]) for k in ("database", "schema") if known.get(k) is not None}
            found[dataset] = {"session": place}
            continue
        for one in named:
            if not isinstance(one, str) or one not in secrets:
                raise InvalidOptionError(
                    f"The catalog's {dataset!r} needs the credentials {_label(one)}, which stay on "
                    "this machine. In snowflake.yml, name an external stage for its location "
                    "(`stages`) or a secret for its credentials (`secrets`), or keep the data in "
                    "Snowflake, as a table (snowflake.SnowparkTableDataset) or on a stage "
                    "(mlflow_connections_snowflake.kedro.datasets.SnowflakeStageFileDataset)."
                )
        found[dataset] = {"secrets": sorted(set(named))}
    return found


def catalog_inside(
    conf: Mapping[str, Any],
    datasets: Iterable[str],
    places: Mapping[str, Mapping[str, Any]],
    read_secret: Callable[[str], Mapping[str, str]] | None = None,
) -> dict[str, Any]:
    """Return the catalog for a node in Snowflake: its own entries, without named credentials.

    Args:
        conf: The catalog's configuration.
        datasets: The node's datasets.
        places: The result of `places_of`.
        read_secret: Reads the credentials of an entry of credentials.yml; None on this machine, where a dataset
            that needs them is replaced by a placeholder.
    """
    entries: dict[str, Any] = {}
    for dataset in datasets:
        place = places.get(dataset)
        if place is None:
            continue
        entry = _entry_of(conf, dataset)
        if "stage" in place:
            entries[dataset] = _stage_entry(entry, place["stage"])
        elif "session" in place:
            # Never empty: SnowparkTableDataset refuses empty credentials, and ignores these.
            entries[dataset] = {**entry, "credentials": {"account": "-", **place["session"]}}
        elif read_secret is None:
            # It cannot be created without its credentials, and this machine never uses it.
            entries[dataset] = {"type": f"{Placeholder.__module__}.{Placeholder.__qualname__}"}
        else:
            values = {name: dict(read_secret(name)) for name in place["secrets"]}
            entries[dataset] = _with_credentials(entry, values)
    kept = {
        name: entry
        for name, entry in used_entries(conf, datasets).items()
        if name not in entries and next(_credentials_in(entry), None) is None
    }
    return {**kept, **entries}


def read_secret(entry: str) -> Mapping[str, str]:
    """Read the credentials of an entry of credentials.yml from its secret, inside a procedure.

    Raises:
        InvalidOptionError: The secret does not hold credentials.
    """
    from snowflake.snowpark import secrets

    variable = secret_variable(entry)
    kind = str(secrets.get_secret_type(variable)).upper()
    if kind == "PASSWORD":
        pair = secrets.get_username_password(variable)
        return {"username": pair.username, "password": pair.password}
    if kind == "GENERIC_STRING":
        try:
            values = json.loads(secrets.get_generic_secret_string(variable))
        except ValueError:
            values = None
        if isinstance(values, Mapping):
            return {str(key): value for key, value in values.items()}
    # The value is not shown.
    raise InvalidOptionError(
        f"The secret for the credentials {entry!r} is not usable: make it a GENERIC_STRING that holds "
        "the entry's keys and values as a JSON object, or a PASSWORD."
    ) from None


def _on_stage(
    dataset: str, entry: Mapping[str, Any], stages: Mapping[str, Identifier]
) -> dict[str, str] | None:
    """Return the stage and the path of a file whose location has a stage; the longest location wins."""
    path = str(entry.get("filepath", ""))
    fits = [location for location in stages if path.startswith(location)]
    if not fits:
        return None
    if entry.get("versioned"):
        raise InvalidOptionError(
            f"The catalog's {dataset!r} is versioned, which a file on a stage cannot be. Remove "
            "`versioned`, or the location's stage from snowflake.yml."
        )
    location = max(fits, key=len)
    return {"stage": f"@{stages[location]}", "filepath": path[len(location) :]}


def _stage_entry(entry: Mapping[str, Any], place: Mapping[str, str]) -> dict[str, Any]:
    left_out = ("filepath", "credentials", "fs_args", "versioned", "metadata")
    inner = {key: value for key, value in entry.items() if key not in left_out}
    own = f"{SnowflakeStageFileDataset.__module__}.{SnowflakeStageFileDataset.__qualname__}"
    return {"type": own, **place, "dataset": inner}


def _with_credentials(entry: Any, values: Mapping[str, Mapping[str, str]]) -> Any:
    if isinstance(entry, Mapping):
        return {
            key: dict(values[one])
            if key == "credentials" and isinstance(one, str)
            else _with_credentials(one, values)
            for key, one in entry.items()
        }
    return entry


def _entry_of(conf: Mapping[str, Any], dataset: str) -> Mapping[str, Any]:
    """Return a dataset's entry, by its name or from the matching dataset factory."""
    entry = conf.get(dataset)
    if entry is None:
        from kedro.io.catalog_config_resolver import CatalogConfigResolver

        factories = {name: one for name, one in conf.items() if "{" in name}
        if factories and not is_parameter(dataset):
            # Without its credentials, which only a real catalog needs.
            resolver = CatalogConfigResolver(_without_credentials(factories))
            pattern = resolver.match_dataset_pattern(
                dataset
            ) or resolver.match_user_catch_all_pattern(dataset)
            if pattern:
                resolved = resolver.resolve_pattern(dataset)
                entry = _restored(resolved, factories[pattern])
    return entry if isinstance(entry, Mapping) else {}


def _without_credentials(entry: Any) -> Any:
    if isinstance(entry, Mapping):
        return {k: _without_credentials(v) for k, v in entry.items() if k != "credentials"}
    return entry


def _restored(resolved: Any, factory: Any) -> Any:
    """Return a resolved entry with the credentials of its factory inserted."""
    if not (isinstance(resolved, Mapping) and isinstance(factory, Mapping)):
        return resolved
    found = {key: _restored(one, factory.get(key)) for key, one in resolved.items()}
    if factory.get("credentials") is not None:
        found["credentials"] = factory["credentials"]
    return found


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
    """Return the local files that a pipeline reads, which go to Snowflake with its code.

    Raises:
        InvalidOptionError: The pipeline writes a local file, which Snowflake does not have, or
            reads one outside of the project.
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


class Placeholder(AbstractDataset[Any, Any]):
    """A dataset that exists only in Snowflake, where its credentials are."""

    def load(self) -> Any:
        """Refuse to read it.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError("This dataset is read in Snowflake alone.")

    def save(self, data: Any) -> None:  # noqa: ARG002 - the base names it
        """Refuse to write it.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError("This dataset is written in Snowflake alone.")

    def _describe(self) -> dict[str, Any]:
        return {}


class TableReference(NamedTuple):
    """A Snowpark DataFrame stored as a transient table.

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
        """Save the data, replacing that of an earlier attempt."""
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
        """Save the data, replacing that of an earlier attempt; a DataFrame goes to a table."""
        from snowflake.snowpark import DataFrame

        if isinstance(data, DataFrame):
            table = self._task.table(self._dataset)
            self._task.note_table(table)
            data.write.mode("overwrite").save_as_table(table.sql, table_type="transient")
            data = TableReference(table.sql)
        self._pickle.save(data)

    def _describe(self) -> dict[str, Any]:
        return self._pickle._describe()
