"""Files on a stage, by Snowpark's own file operations, which quote every place themselves.

A client may neither PUT to an external stage nor GET from one (docs.snowflake.com, PUT and GET). Such
files pass an internal stage, and COPY FILES does the rest.
"""

import re
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.utils.async_logging.run_operations import RunOperations

from mlflow_connections import ConnectionsError
from mlflow_connections_snowflake._errors import BridgeError
from mlflow_connections_snowflake._names import Identifier
from mlflow_connections_snowflake._session import exclusive_session

from ._mlflow import repository_arguments
from ._uri import Bridge

if TYPE_CHECKING:
    from snowflake.snowpark import Session


# PUT reads these in a local path as wildcards.
_WILD = re.compile(r"[*?\[\]]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Stage:
    """The stage of a bridge.

    Args:
        bridge: Which stage, and which one uploads pass, if any.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def upload(self, files: dict[str, Path]) -> None:
        """Put files on the stage, replacing what is there.

        Args:
            files: The file by its path on the stage.

        Raises:
            ConnectionsError: Snowflake refused, or a path cannot be one on a stage.
        """
        checked = {_checked(path): local for path, local in files.items()}
        if not checked:
            return
        with self._telling("upload to") as session:
            if self._bridge.uploads is None:
                _put(session, self._bridge.stage, "", checked)
                return
            with self._passing(session) as folder:
                _put(session, self._bridge.uploads, folder, checked)
                session.file.copy_files(
                    _place(self._bridge.uploads, folder + "/"),
                    _place(self._bridge.stage),
                    detailed_output=False,
                )

    def files(self, folder: str) -> dict[str, int]:
        """Give every file below a folder, with its size in bytes.

        Raises:
            ConnectionsError: Snowflake refused.
        """
        folder = _checked(folder)
        prefix = f"{folder}/" if folder else ""
        with self._telling("list") as session:
            listed = session.file.list(_place(self._bridge.stage, prefix))
        found: dict[str, int] = {}
        for one in listed:
            # An internal stage's files are listed below its name, an external one's as URLs.
            name, location = str(one.name), self._bridge.location
            path = (
                name[len(location) :]
                if location and name.startswith(location)
                else name.partition("/")[2]
            )
            if path.startswith(prefix):
                found[path] = int(one.size)
        return found

    def download(self, path: str, local: Path) -> None:
        """Get one file.

        Raises:
            ConnectionsError: There is no such file, or Snowflake refused.
        """
        path = _checked(path)
        with self._telling("download from") as session, TemporaryDirectory() as folder:
            if self._bridge.uploads is None:
                self._get(session, self._bridge.stage, path, Path(folder), local)
                return
            with self._passing(session) as passed:
                where = PurePosixPath(path)
                parent = "" if str(where.parent) == "." else f"{where.parent}/"
                session.file.copy_files(
                    _place(self._bridge.stage, parent),
                    _place(self._bridge.uploads, passed + "/"),
                    files=[where.name],
                    detailed_output=False,
                )
                self._get(
                    session, self._bridge.uploads, f"{passed}/{where.name}", Path(folder), local
                )

    def _get(
        self, session: "Session", stage: Identifier, path: str, folder: Path, local: Path
    ) -> None:
        """GET takes a path for a prefix, so what comes is looked through."""
        session.file.get(_place(stage, path), str(folder))
        fetched = folder / PurePosixPath(path).name
        if not fetched.is_file():
            raise BridgeError(f"There is no file {path!r} on the stage {self._bridge.stage}.")
        shutil.move(fetched, local)

    @contextmanager
    def _passing(self, session: "Session") -> Iterator[str]:
        """Give a folder of the internal stage for this one transfer, and empty it after."""
        assert self._bridge.uploads is not None  # noqa: S101 - asked by the callers
        folder = f"mlflow/{uuid.uuid4().hex}"
        try:
            yield folder
        finally:
            session.file.remove(_place(self._bridge.uploads, folder + "/"))

    @contextmanager
    def _telling(self, deed: str) -> "Iterator[Session]":
        from snowflake.connector.errors import Error
        from snowflake.snowpark.exceptions import SnowparkClientException

        try:
            with exclusive_session(self._bridge.connection) as session:
                yield session
        except (SnowparkClientException, Error) as error:
            said = " ".join(str(getattr(error, "message", None) or error).split())
            raise BridgeError(
                f"Could not {deed} the stage {self._bridge.stage}: {said.rstrip('.')}. Run "
                "`mlflow-snowflake check`: it names a stage or a grant that is missing."
            ) from error


def _put(session: "Session", stage: Identifier, folder: str, files: dict[str, Path]) -> None:
    for path, local in files.items():
        target = PurePosixPath(folder) / path
        if target.name == local.name and not _WILD.search(str(local)):
            parent = "" if str(target.parent) == "." else f"{target.parent}/"
            session.file.put(str(local), _place(stage, parent), auto_compress=False, overwrite=True)
        else:
            with local.open("rb") as stream:
                session.file.put_stream(
                    stream, _place(stage, str(target)), auto_compress=False, overwrite=True
                )


def _place(stage: Identifier, path: str = "") -> str:
    """Identifier a place on a stage; Snowpark puts it into quotes and escapes what is in it."""
    return f"@{stage}/{path}"


def _checked(path: str) -> str:
    """Refuse a path that is none, or that a stage would read as another.

    Raises:
        ConnectionsError: It leaves the stage, or has a part that begins or ends with a space.
    """
    text = path.strip("/")
    parts = text.split("/") if text else []
    if _CONTROL.search(text) or any(p in {"", ".", ".."} or p != p.strip() for p in parts):
        raise _bad_path(path)
    return text


def _bad_path(path: str) -> ConnectionsError:
    return BridgeError(
        f"{path!r} cannot be an artifact's path on a stage: it must stay below it, and no part may "
        "be empty, hold a control character, or begin or end with a space."
    )


class StageArtifactRepository(ArtifactRepository):
    """The artifacts of a run or of a logged model, on a stage.

    Args:
        artifact_uri: As the tracking store gives it: the bridge, and the path on its stage.
        tracking_uri: Not needed: the artifact's URI says it all.
        registry_uri: The same.
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
                f"The artifacts lie at {bridge.root}, which is not below "
                f"{bridge.location or 'a location that is known'}: set the storage's location "
                "in snowflake.yml (or the option 'location') to MLflow's artifact root.",
                INVALID_PARAMETER_VALUE,
            )
        self._stage = Stage(bridge)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Upload a file."""
        local = Path(local_file)
        self._stage.upload({self._below(artifact_path, local.name): local})

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Upload a folder with all that is in it."""
        root = Path(local_dir)
        self._stage.upload(
            {
                self._below(artifact_path, local.relative_to(root).as_posix()): local
                for local in sorted(root.rglob("*"))
                if local.is_file()
            }
        )

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """List what lies directly in a folder; nothing where the path is a file."""
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
        """Upload here and now: a procedure's session takes no statements from other threads."""
        from tempfile import TemporaryDirectory

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
    """Runs what it is given at once, on the calling thread."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)
        return future
