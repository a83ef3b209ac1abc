"""Artifacts of a source server, for a replay into another one."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlflow_connections.secrets import explain, mask_uri, masked
from mlflow_connections_outbox import Event, Rejected, Unavailable

from ._mlflow import artifact_repository, download_file

__all__ = ["SourceFiles", "entries_of", "paths_below", "place_in", "repository_of", "root_of"]

_PROFILE = re.compile(r"^dbfs://([^/]*@)?databricks/")


class SourceFiles:
    """Reads the artifacts named by events from the source server's storage.

    Args:
        tracking_uri: The source server, which URIs such as `mlflow-artifacts:/…` need.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._tracking_uri = tracking_uri

    def fetch(self, event: Event, folder: Path) -> Iterable[tuple[str, Path]]:
        """Download the files of an `artifacts_uploaded` event, one after another.

        Raises:
            Rejected: A file no longer exists at the source.
            Unavailable: The source cannot list its files now.
        """
        data = event.data
        repository = repository_of(data["source"], self._tracking_uri)
        if data["count"] <= len(data["files"]):
            paths = [str(path) for path, *_ in data["files"]]
        else:
            paths = list(paths_below(repository, data.get("folder") or None))
        for path in paths:
            local = folder / "file" / Path(path).name
            local.parent.mkdir(exist_ok=True)
            try:
                yield path, download_file(repository, path, local.parent)
            except Exception as error:
                if not self._exists(repository, path):
                    raise Rejected(
                        f"The artifact {path} of {event.stream} no longer exists at the source.",
                        [0],
                    ) from masked(error)
                raise

    def _exists(self, repository: Any, path: str) -> bool:
        try:
            return any(entry == path for entry in paths_below(repository, _parent(path)))
        except Exception as error:  # noqa: BLE001 - MLflow raises what its plugins and drivers raise
            # The source is at fault, which must not count against the event.
            place, said = mask_uri(self._tracking_uri), explain(error)
            raise Unavailable(f"The artifacts at {place} cannot be read now: {said}") from masked(
                error
            )


def repository_of(uri: str, tracking_uri: str) -> Any:
    """Return MLflow's artifact repository of a URI on any server.

    MLflow 2.22 resolves `mlflow-artifacts:/…` by the tracking URI in force, not by the given one.
    """
    return artifact_repository(uri, tracking_uri)


def place_in(repository: Any, path: str | None) -> str | None:
    """Return the path by which a repository lists and downloads what it has logged under a path.

    AzureML's repository of a folder adds that folder to what it logs, and lists paths of the whole run or model:
    azureml-mlflow 1.62, `AzureMLflowArtifactRepository`.
    """
    root = str(getattr(getattr(repository, "artifacts", None), "path", None) or "").strip("/")
    return "/".join(filter(None, (root, path))) or None


def entries_of(repository: Any, folder: str | None = None) -> list[Any]:
    """Return the entries of a repository's folder, with paths relative to the repository's URI."""
    from mlflow.entities import FileInfo

    found = list(repository.list_artifacts(place_in(repository, folder)))
    if (root := place_in(repository, None)) is None:
        return found
    return [
        FileInfo(each.path.removeprefix(f"{root}/"), each.is_dir, each.file_size) for each in found
    ]


def _parent(path: str) -> str | None:
    return path.rpartition("/")[0] or None


def paths_below(repository: Any, folder: str | None = None) -> Iterable[str]:
    """Yield the paths of all files of an artifact repository, or of one of its folders."""
    for entry in entries_of(repository, folder):
        if entry.is_dir:
            yield from paths_below(repository, entry.path)
        else:
            yield entry.path


def root_of(uri: str) -> str:
    """Return an artifact URI as a run or model names it: MLflow adds Databricks' profile to open its repository."""
    return _PROFILE.sub("dbfs:/", uri).rstrip("/")
