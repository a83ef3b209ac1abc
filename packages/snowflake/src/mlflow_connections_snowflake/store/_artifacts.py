"""MLflow's artifact repository on a stage.

Files move by Snowpark's own file operations, which quote every place. Neither PUT nor GET reaches an
external stage (docs.snowflake.com, PUT and GET), so such files pass through an internal stage, and
COPY FILES moves them. An owner's-rights procedure may not REMOVE files: what passed through then
stays until `mlflow-snowflake clean` removes it.
"""

import re
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.utils.async_logging.run_operations import RunOperations

from mlflow_connections import ConnectionsError
from mlflow_connections.secrets import get_logger, masked
from mlflow_connections_snowflake._config import TRANSFERS
from mlflow_connections_snowflake._errors import BridgeError, is_unsupported_statement, message_of
from mlflow_connections_snowflake._names import Identifier
from mlflow_connections_snowflake._session import exclusive_session, is_inside_snowflake

from ._mlflow import repository_arguments
from ._uri import Bridge

if TYPE_CHECKING:
    from snowflake.snowpark import Session

_logger = get_logger(__name__)

# PUT reads these in a local path as wildcards.
_WILD = re.compile(r"[*?\[\]]")
_CHUNK = 1 << 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Stage:
    """The stages of a bridge.

    Args:
        bridge: Names the stage, and the internal stage that uploads pass through, if any.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._cleans = True

    def upload(self, files: dict[str, Path]) -> None:
        """Upload files, replacing existing ones.

        Args:
            files: The files by their path on the stage.

        Raises:
            ConnectionsError: Snowflake refused, or a path is not possible on a stage.
        """
        checked = {_checked(path): local for path, local in files.items()}
        if not checked:
            return
        with self._explained("upload to") as session:
            if self._bridge.uploads is None:
                _put(session, self._bridge.stage, "", checked)
                return
            with self._transfer(session, self._bridge.uploads) as folder:
                _put(session, self._bridge.uploads, folder, checked)
                session.file.copy_files(
                    _place(self._bridge.uploads, folder + "/"),
                    _place(self._bridge.stage),
                    detailed_output=False,
                )

    def files(self, folder: str) -> dict[str, int]:
        """List every file below a folder, with its size in bytes.

        Raises:
            ConnectionsError: Snowflake refused.
        """
        folder = _checked(folder)
        prefix = f"{folder}/" if folder else ""
        with self._explained("list") as session:
            listed = session.file.list(_place(self._bridge.stage, prefix))
        found: dict[str, int] = {}
        for one in listed:
            # An internal stage lists files below its name, an external one lists URLs.
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
        """Download one file.

        Raises:
            ConnectionsError: There is no such file, or Snowflake refused.
        """
        path = _checked(path)
        with self._explained("download from") as session, TemporaryDirectory() as folder:
            if self._bridge.uploads is None:
                self._get(session, self._bridge.stage, path, Path(folder), local)
                return
            if is_inside_snowflake() and self._read(path, local):
                return
            with self._transfer(session, self._bridge.uploads) as transfer:
                where = PurePosixPath(path)
                parent = "" if str(where.parent) == "." else f"{where.parent}/"
                session.file.copy_files(
                    _place(self._bridge.stage, parent),
                    _place(self._bridge.uploads, transfer + "/"),
                    files=[where.name],
                    detailed_output=False,
                )
                self._get(
                    session, self._bridge.uploads, f"{transfer}/{where.name}", Path(folder), local
                )

    def _read(self, path: str, local: Path) -> bool:
        """Read a file of the external stage directly, and return whether that worked.

        SnowflakeFile needs neither a copy nor its removal, but not every environment has it.
        """
        try:
            from snowflake.snowpark.files import SnowflakeFile

            place = _place(self._bridge.stage, path)
            with (
                SnowflakeFile.open(place, "rb", require_scoped_url=False) as source,
                local.open("wb") as target,
            ):
                while chunk := bytes(cast("Any", source.read(_CHUNK))):
                    target.write(chunk)
        except Exception as error:  # noqa: BLE001 - the transfer below reports what is wrong
            _logger.debug("SnowflakeFile could not read %s: %s", path, error)
            return False
        return True

    def _get(
        self, session: "Session", stage: Identifier, path: str, folder: Path, local: Path
    ) -> None:
        """Get one file. GET reads a path as a prefix, so the right file is picked from the result."""
        session.file.get(_place(stage, path), str(folder))
        fetched = folder / PurePosixPath(path).name
        if not fetched.is_file():
            raise BridgeError(f"There is no file {path!r} on the stage {self._bridge.stage}.")
        shutil.move(fetched, local)

    @contextmanager
    def _transfer(self, session: "Session", stage: Identifier) -> Iterator[str]:
        """Yield a folder of the internal stage for one transfer, and empty it afterwards.

        Emptying never fails the transfer. Where Snowflake refuses REMOVE, the files stay.
        """
        folder = f"{TRANSFERS}/{uuid.uuid4().hex}"
        try:
            yield folder
        finally:
            if self._cleans:
                self._clean(session, stage, folder)

    def _clean(self, session: "Session", stage: Identifier, folder: str) -> None:
        try:
            session.file.remove(_place(stage, folder + "/"))
        except Exception as error:  # noqa: BLE001 - the user's file has arrived
            self._cleans = not is_unsupported_statement(error)
            _logger.warning(
                "Files stay in @%s/%s: %s. `mlflow-snowflake clean` removes them.",
                stage,
                TRANSFERS,
                "an owner's-rights procedure may not remove files"
                if not self._cleans
                else message_of(error).rstrip("."),
            )

    @contextmanager
    def _explained(self, action: str) -> "Iterator[Session]":
        from snowflake.connector.errors import Error
        from snowflake.snowpark.exceptions import SnowparkClientException

        try:
            with exclusive_session(self._bridge.connection) as session:
                yield session
        except (SnowparkClientException, Error) as error:
            said = message_of(error).rstrip(".")
            fix = (
                "Snowflake does not allow this in an owner's-rights procedure: create it with "
                "EXECUTE AS CALLER, or use the connection's option mode: external_access."
                if is_unsupported_statement(error)
                else "`mlflow-snowflake check` names a stage or a grant that is missing."
            )
            raise BridgeError(
                f"Could not {action} the stage {self._bridge.stage}: {said}. {fix}"
            ) from masked(error)


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
        self._stage = Stage(bridge)

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
    """Return a place on a stage; Snowpark quotes and escapes it."""
    return f"@{stage}/{path}"


def _checked(path: str) -> str:
    """Return a path without outer slashes, or refuse one that a stage would change.

    Raises:
        ConnectionsError: It leaves the stage, or a part begins or ends with a space.
    """
    text = path.strip("/")
    parts = text.split("/") if text else []
    if _CONTROL.search(text) or any(p in {"", ".", ".."} or p != p.strip() for p in parts):
        raise _bad_path(path)
    return text


def _bad_path(path: str) -> ConnectionsError:
    return BridgeError(
        f"{path!r} cannot be the path of an artifact on a stage: no part may be empty, '.' or '..', "
        "contain a control character, or begin or end with a space."
    )
