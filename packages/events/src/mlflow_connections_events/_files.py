"""Artifacts of a source server, for a replay into another one."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlflow_connections.secrets import masked
from mlflow_connections_outbox import Event, Rejected

from ._mlflow import artifact_repository


class SourceFiles:
    """Reads the artifacts that events name from the source server's storage.

    Args:
        tracking_uri: The source server, which URIs such as `mlflow-artifacts:/…` need.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._tracking_uri = tracking_uri

    def fetch(self, event: Event, folder: Path) -> Iterable[tuple[str, Path]]:
        """Download the files of an `artifacts_uploaded` event, one after the other.

        Raises:
            Rejected: A file no longer exists at the source.
        """
        data = event.data
        repository = artifact_repository(data["source"], self._tracking_uri)
        if data["count"] <= len(data["files"]):
            paths = [str(path) for path, *_ in data["files"]]
        else:
            paths = list(_paths_below(repository, data.get("folder") or None))
        for path in paths:
            local = folder / "file" / Path(path).name
            local.parent.mkdir(exist_ok=True)
            try:
                yield path, Path(repository.download_artifacts(path, str(local.parent)))
            except Exception as error:
                if not any(entry == path for entry in _paths_below(repository, _parent(path))):
                    raise Rejected(
                        f"The artifact {path} of {event.stream} no longer exists at the source.",
                        [0],
                    ) from masked(error)
                raise


def _parent(path: str) -> str | None:
    return path.rpartition("/")[0] or None


def _paths_below(repository: Any, folder: str | None) -> Iterable[str]:
    for entry in repository.list_artifacts(folder):
        if entry.is_dir:
            yield from _paths_below(repository, entry.path)
        else:
            yield entry.path
