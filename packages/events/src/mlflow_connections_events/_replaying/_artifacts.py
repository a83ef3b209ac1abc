"""Applying uploads: files of runs, logged models and traces."""

import filecmp
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from mlflow_connections.secrets import masked
from mlflow_connections_events._mlflow import artifact_repository, download_file
from mlflow_connections_outbox import Event, Rejected

from ._outcome import is_existing_file
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
                try:
                    upload(local, path.rpartition("/")[0])
                except Exception as error:
                    if not is_existing_file(error):
                        raise
                    self._expect_same(event, path, local, error)

    def _uploader(self, event: Event) -> Callable[[Path, str], None]:
        """Return a function that uploads a file to a folder of the owner of an event's files."""
        if trace := event.data.get("trace"):
            return lambda file, folder: self._traces.log_file(trace, file, folder)
        if event.data.get("model"):
            return lambda file, folder: self._repository(event).log_artifact(
                str(file), folder or None
            )
        run_id = self._runs.of(event)
        return lambda file, folder: self._target.client.log_artifact(
            run_id, str(file), folder or None
        )

    def _repository(self, event: Event) -> Any:
        """Return the artifact repository of a run or a logged model."""
        tracking = self._target.tracking
        if model := event.data.get("model"):
            location = tracking.get_logged_model(self._target.model(model)).artifact_location
        else:
            location = tracking.get_run(self._runs.of(event)).info.artifact_uri
        return artifact_repository(location, self._target.client.tracking_uri)

    def _expect_same(self, event: Event, path: str, file: Path, error: Exception) -> None:
        """Compare a refused file with the one in its place, which an upload without a response may have left.

        Raises:
            Rejected: The other one has another content.
        """
        if event.data.get("trace"):
            raise error
        with tempfile.TemporaryDirectory() as folder:
            there = download_file(self._repository(event), path, Path(folder))
            if not filecmp.cmp(file, there, shallow=False):
                raise Rejected(
                    f"The server has a file {path} of {event.stream} with another content, and its storage "
                    "never overwrites a file, as Azure's: log the new content under another name.",
                    [0],
                ) from masked(error)

    def _rewritten(self, file: Path, temporary: Path) -> Path:
        """Return a copy of an MLmodel file with the destination's IDs and URIs."""
        folder = temporary / "rewritten"
        folder.mkdir(exist_ok=True)
        copy = folder / file.name
        copy.write_text(
            self._ids.replaced(file.read_text(encoding="utf-8")), encoding="utf-8", newline=""
        )
        return copy
