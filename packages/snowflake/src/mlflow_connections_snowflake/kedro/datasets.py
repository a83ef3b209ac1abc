"""Datasets for the catalog of a project whose pipelines run in Snowflake."""

import shutil
from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import parse_dataset_definition

from mlflow_connections_snowflake._names import Identifier, stage
from mlflow_connections_snowflake._session import open_session
from mlflow_connections_snowflake._stage import Stage

if TYPE_CHECKING:
    from snowflake.snowpark import Session


class SnowflakeStageFileDataset(AbstractDataset[Any, Any]):
    """A file on a stage, read and written by any file-based dataset.

    In Snowflake the procedure's own session is used; elsewhere the active session, or one that the
    credentials open. It has the arguments of kedro-snowflake's `SnowflakeStageFileDataSet`, and
    `internal_stage` for a stage over a storage integration: Snowflake lets no client transfer a
    file to or from such a stage, so files pass through an internal one.

    In a catalog::

        shuttles:
          type: mlflow_connections_snowflake.kedro.datasets.SnowflakeStageFileDataset
          stage: "@FILES"
          filepath: intermediate/shuttles.csv
          credentials: snowflake
          dataset:
            type: pandas.CSVDataset

    Args:
        stage: The stage, such as `@FILES`.
        filepath: The file's path on the stage.
        dataset: The type of the dataset, or its definition without a path.
        filepath_arg: The name of the dataset's argument for its path.
        database: The stage's database; by default that of the credentials, else the session's.
        schema: The stage's schema, likewise.
        internal_stage: The internal stage that files pass through, if `stage` is an external one.
        credentials: Connection parameters, used only outside of Snowflake.
        metadata: Ignored by Kedro; for other tools.

    Raises:
        DatasetError: The definition of the dataset is not possible.
    """

    def __init__(
        self,
        *,
        stage: str,
        filepath: str,
        dataset: str | dict[str, Any],
        filepath_arg: str = "filepath",
        database: str | None = None,
        schema: str | None = None,
        internal_stage: str | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        known = dict(credentials or {})
        self._credentials = known
        home = database or known.get("database"), schema or known.get("schema")
        self._stage = _stage(stage, *home)
        self._internal = None if internal_stage is None else _stage(internal_stage, *home)
        self._path = _on_stage(filepath)
        self._argument = filepath_arg
        self.metadata = metadata
        definition = {"type": dataset} if isinstance(dataset, str) else dict(dataset)
        if "versioned" in definition or filepath_arg in definition:
            raise DatasetError(
                f"The dataset on the stage {self._stage} must have neither 'versioned' nor "
                f"{filepath_arg!r}: the path is that on the stage."
            )
        self._type, self._arguments = parse_dataset_definition(definition)

    def load(self) -> Any:
        """Download the file and read it."""
        with TemporaryDirectory() as folder:
            local = Path(folder) / PurePosixPath(self._path).name
            if self._internal is not None:
                self._external().download(self._path, local)
                return self._inner(local).load()
            with self._session().file.get_stream(self._place) as source, local.open("wb") as target:
                shutil.copyfileobj(source, target)
            return self._inner(local).load()

    def save(self, data: Any) -> None:
        """Write the file and upload it."""
        with TemporaryDirectory() as folder:
            local = Path(folder) / PurePosixPath(self._path).name
            self._inner(local).save(data)
            if self._internal is not None:
                self._external().upload({self._path: local})
                return
            with local.open("rb") as stream:
                self._session().file.put_stream(
                    stream, self._place, auto_compress=False, overwrite=True
                )

    def _external(self) -> Stage:
        return Stage(self._stage, self._internal, "", lambda: nullcontext(self._session()))

    @property
    def _place(self) -> str:
        return f"@{self._stage}/{self._path}"

    def _inner(self, local: Path) -> AbstractDataset[Any, Any]:
        made: AbstractDataset[Any, Any] = self._type(
            **{**self._arguments, self._argument: str(local)}
        )
        return made

    def _session(self) -> "Session":
        from snowflake.snowpark.context import get_active_session
        from snowflake.snowpark.exceptions import SnowparkSessionException

        try:
            return get_active_session()
        except SnowparkSessionException:
            return open_session(parameters=self._credentials or None)

    def _exists(self) -> bool:
        return bool(self._session().file.list(self._place))

    def _describe(self) -> dict[str, Any]:
        return {"place": self._place, "dataset": self._type.__name__}


def _stage(text: str, database: str | None, schema: str | None) -> Identifier:
    found = stage(text, "stage")
    if len(found.parts) == 1 and database and schema:
        home = stage(f"{database}.{schema}", "database and schema")
        return Identifier((*home.parts, *found.parts))
    return found


def _on_stage(filepath: str) -> str:
    """Return the path on the stage: Kedro puts the project's folder before each `filepath`."""
    path = PurePosixPath(filepath)
    here = Path.cwd()
    for folder in (here.as_posix(), here.resolve().as_posix()):
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return filepath.strip("/")
