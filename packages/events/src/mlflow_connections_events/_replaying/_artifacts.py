"""Applying uploads: files of runs, logged models and traces."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from mlflow_connections_events._mlflow import artifact_repository
from mlflow_connections_outbox import Event

from ._runs import RunApplier
from ._target import ReplayTarget
from ._traces import TraceApplier


class Files(Protocol):
    """Provides the content of the artifacts named by events."""

    def fetch(self, event: Event, folder: Path) -> Iterable[tuple[str, Path]]:
        """Return the files of an `artifacts_uploaded` event.

        Args:
            event: The event.
            folder: An empty folder for downloads, removed afterwards.

        Returns:
            For each file its path below its owner's root, and the local file.
        """


class ArtifactApplier:
    """Uploads the files named by events.

    Args:
        target: The server.
        runs: Finds the runs of files.
        traces: Uploads the files of traces.
        files: Provides the files; without it none are copied.
    """

    def __init__(
        self,
        target: ReplayTarget,
        runs: RunApplier,
        traces: TraceApplier,
        files: Files | None,
    ) -> None:
        self._target = target
        self._ids = target.ids
        self._runs = runs
        self._traces = traces
        self._files = files

    def handlers(self) -> Mapping[str, Callable[[Event], None]]:
        """Return the function for each kind of event."""
        return {"artifacts_uploaded": self._uploaded}

    def _uploaded(self, event: Event) -> None:
        if self._files is None:
            return
        upload = self._uploader(event)
        with tempfile.TemporaryDirectory() as temporary:
            for path, file in self._files.fetch(event, Path(temporary)):
                local = self._rewritten(file, Path(temporary)) if file.name == "MLmodel" else file
                upload(local, path.rpartition("/")[0])

    def _uploader(self, event: Event) -> Callable[[Path, str], None]:
        """Return a function that uploads a file to a folder of the owner of an event's files."""
        if trace := event.data.get("trace"):
            return lambda file, folder: self._traces.log_file(trace, file, folder)
        if model := event.data.get("model"):
            model_id = self._target.model(model)
            return lambda file, folder: self._log_model_file(model_id, file, folder)
        run_id = self._runs.of(event)
        return lambda file, folder: self._target.client.log_artifact(
            run_id, str(file), folder or None
        )

    def _log_model_file(self, model_id: str, file: Path, folder: str) -> None:
        location = self._target.tracking.get_logged_model(model_id).artifact_location
        repository = artifact_repository(location, self._target.client.tracking_uri)
        repository.log_artifact(str(file), folder or None)

    def _rewritten(self, file: Path, temporary: Path) -> Path:
        """Return a copy of an MLmodel file with the destination's IDs and URIs."""
        folder = temporary / "rewritten"
        folder.mkdir(exist_ok=True)
        copy = folder / file.name
        copy.write_text(
            self._ids.replaced(file.read_text(encoding="utf-8")), encoding="utf-8", newline=""
        )
        return copy
