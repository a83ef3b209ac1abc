"""What goes from node to node, each in a process of its own: by the catalog, or as a pickle on a stage."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset, DatasetError, MemoryDataset

from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections.secrets import masked

from ._task_names import identifier_part

if TYPE_CHECKING:
    from kedro.pipeline import Pipeline
    from snowflake.snowpark import Session


def is_parameter(dataset: str) -> bool:
    """Whether a node's input is one of the project's parameters."""
    return dataset == "parameters" or dataset.startswith("params:")


def travels(catalog: Any, dataset: str) -> bool:
    """Whether a dataset would be held in memory, and so goes from process to process as a pickle."""
    if is_parameter(dataset):
        return False
    return dataset not in catalog or isinstance(catalog.get(dataset), MemoryDataset)


def files_to_bring(pipeline: "Pipeline", catalog: Any, project: Path) -> list[Path]:
    """Give the files of this machine that a pipeline reads: they go to Snowflake with its code.

    Raises:
        InvalidOptionError: The pipeline writes a file of this machine, which Snowflake has not,
            or reads one that is not the project's.
        MissingOptionError: A file is not there, or an input is in no catalog.
    """
    for dataset in sorted(pipeline.all_outputs()):
        if (path := _local_path(catalog, dataset)) is not None:
            raise InvalidOptionError(
                f"The catalog's {dataset!r} is written to {path}, a file of this machine, which "
                "would be lost in Snowflake: leave it out of the catalog, and it goes from node to "
                "node on the stage, or give it a place in Snowflake or in the cloud."
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
    found = getattr(found, "_dataset", found)  # what a CachedDataset caches
    path = getattr(found, "_filepath", None) or getattr(found, "_path", None)
    if path is None or getattr(found, "_protocol", "file") not in {"file", "local"}:
        return None
    return Path(str(path).removeprefix("file://"))


def _files(dataset: str, path: Path, project: Path) -> list[Path]:
    path = path if path.is_absolute() else project / path
    if not path.resolve().is_relative_to(project.resolve()):
        raise InvalidOptionError(
            f"The catalog's {dataset!r} is read from {path}, outside of the project, so it cannot "
            "go to Snowflake with its code: put it into the project, or into the cloud."
        )
    files = [p for p in sorted(path.rglob("*")) if p.is_file()] if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise MissingOptionError(f"The catalog's {dataset!r} is read from {path}: it is not there.")
    return files


class StagePickle(AbstractDataset[Any, Any]):
    """What Kedro would hold in memory, as a pickle on a stage.

    Args:
        session: The procedure's session.
        folder: A place on a stage, `@stage/path`.
        dataset: The dataset's name, any text.
    """

    def __init__(self, session: "Session", folder: str, dataset: str) -> None:
        self._session = session
        self._name = dataset.partition("@")[0]  # what follows is how it is read: the data is one
        digest = hashlib.sha256(self._name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        self._place = f"{folder}/{identifier_part(self._name).lower()}-{digest}.pickle"

    def load(self) -> Any:
        """Read it."""
        with self._session.file.get_stream(self._place) as stream:
            return pickle.load(stream)  # noqa: S301 - a node of the same pipeline wrote it

    def save(self, data: Any) -> None:
        """Write it, over what an earlier try may have left."""
        import cloudpickle  # type: ignore[import-untyped]  # it brings no types

        try:
            written = cloudpickle.dumps(data)
        except Exception as error:  # noqa: BLE001 - raised again
            raise DatasetError(
                f"{self._name!r} cannot go to the next node as a pickle, since it cannot be made "
                f"one ({error}): give it a place in the catalog."
            ) from masked(error)
        self._session.file.put_stream(
            io.BytesIO(written), self._place, auto_compress=False, overwrite=True
        )

    def _describe(self) -> dict[str, Any]:
        return {"place": self._place}
