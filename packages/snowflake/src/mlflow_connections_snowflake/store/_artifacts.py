"""MLflow's artifact repository on a stage."""

from concurrent.futures import Executor, Future
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.utils.async_logging.run_operations import RunOperations

from mlflow_connections_snowflake._session import exclusive_session
from mlflow_connections_snowflake._stage import Stage

from ._mlflow import repository_arguments
from ._uri import Bridge


class StageArtifactRepository(ArtifactRepository):
    """The artifacts of a run or of a logged model, on a stage.

    Args:
        artifact_uri: The artifact URI from the tracking store: the bridge, and a path on its stage.
        tracking_uri: Unused; the artifact URI is complete.
        registry_uri: Unused.
    """

    def __init__(
        self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
    ) -> None:
        super().__init__(
            **repository_arguments(
                artifact_uri=artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri
            )
        )
        bridge, self._path = Bridge.from_uri(artifact_uri)
        if not self._path and bridge.root:
            raise MlflowException(
                f"The artifacts are at {bridge.root}, which is not below "
                f"{bridge.location or 'a known location'}. Set the storage's location "
                "in snowflake.yml (or the option 'location') to MLflow's artifact root.",
                INVALID_PARAMETER_VALUE,
            )
        self._stage = Stage(
            bridge.stage,
            bridge.uploads,
            bridge.location,
            lambda: exclusive_session(bridge.connection),
        )

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Upload a file."""
        local = Path(local_file)
        self._stage.upload({self._below(artifact_path, local.name): local})

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Upload a folder with everything in it."""
        root = Path(local_dir)
        self._stage.upload(
            {
                self._below(artifact_path, local.relative_to(root).as_posix()): local
                for local in sorted(root.rglob("*"))
                if local.is_file()
            }
        )

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """List the direct content of a folder; a file has none."""
        folder = self._below(path)
        files: dict[str, int] = {}
        folders: set[str] = set()
        for found, size in self._stage.files(folder).items():
            first, slash, _ = found[len(folder) + 1 :].partition("/")
            if slash:
                folders.add(first)
            else:
                files[first] = size
        before = f"{path.strip('/')}/" if path and path.strip("/") else ""
        infos = [FileInfo(before + name, True, None) for name in folders]
        infos += [FileInfo(before + name, False, size) for name, size in files.items()]
        return sorted(infos, key=lambda info: str(info.path))

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self._stage.download(self._below(remote_file_path), Path(local_path))

    def _log_artifact_async(
        self, filename: str, artifact_path: str | None = None, artifact: Any = None
    ) -> RunOperations:
        """Upload at once: a procedure's session accepts no statements from other threads."""
        with TemporaryDirectory() as folder:
            local = Path(folder) / filename
            if artifact is not None:
                artifact.save(local)
            self.log_artifact(str(local), artifact_path)
        return RunOperations([])

    def _create_thread_pool(self) -> Executor:
        return _InlineExecutor()

    def _below(self, *parts: str | None) -> str:
        return "/".join(part.strip("/") for part in (self._path, *parts) if part and part != "/")


class _InlineExecutor(Executor):
    """Runs each task at once, on the calling thread."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - raised again by the future's result
            future.set_exception(error)
        return future
