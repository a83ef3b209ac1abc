"""Files on a stage, for a session that may belong to a procedure.

Files move by Snowpark's own file operations, which quote every path. Neither PUT nor GET reaches an
external stage (docs.snowflake.com, PUT and GET), so such files pass through an internal stage, and
COPY FILES moves them. An owner's-rights procedure may not REMOVE files: transferred files stay
until `mlflow-snowflake clean` removes them.
"""

import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from mlflow_connections import ConnectionsError
from mlflow_connections.secrets import get_logger, masked

from ._config import TRANSFERS
from ._errors import BridgeError, is_unsupported_statement, message_of
from ._names import Identifier
from ._session import is_inside_snowflake

if TYPE_CHECKING:
    from snowflake.snowpark import Session

_logger = get_logger(__name__)

# PUT treats these characters in a local path as wildcards.
_WILD = re.compile(r"[*?\[\]]")
_CHUNK = 1 << 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Stage:
    """The files of one stage.

    Args:
        stage: The stage.
        uploads: The internal stage that files pass through, if the stage is an external one.
        location: The URL of an external stage; empty if unknown.
        session: Opens the session; a session takes one statement at a time.
    """

    def __init__(
        self,
        stage: Identifier,
        uploads: Identifier | None,
        location: str,
        session: "Callable[[], AbstractContextManager[Session]]",
    ) -> None:
        self._name = stage
        self._uploads = uploads
        self._location = location
        self._open = session
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
            if self._uploads is None:
                _put(session, self._name, "", checked)
                return
            with self._transfer(session, self._uploads) as folder:
                _put(session, self._uploads, folder, checked)
                session.file.copy_files(
                    _place(self._uploads, folder + "/"),
                    _place(self._name),
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
            listed = session.file.list(_place(self._name, prefix))
        found: dict[str, int] = {}
        for one in listed:
            # An internal stage lists files below its name, an external one lists URLs.
            name, location = str(one.name), self._location
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
            ConnectionsError: The file does not exist, or Snowflake refused.
        """
        path = _checked(path)
        with self._explained("download from") as session, TemporaryDirectory() as folder:
            if self._uploads is None:
                self._get(session, self._name, path, Path(folder), local)
                return
            if is_inside_snowflake() and self._read(path, local):
                return
            with self._transfer(session, self._uploads) as transfer:
                where = PurePosixPath(path)
                parent = "" if str(where.parent) == "." else f"{where.parent}/"
                session.file.copy_files(
                    _place(self._name, parent),
                    _place(self._uploads, transfer + "/"),
                    files=[where.name],
                    detailed_output=False,
                )
                self._get(session, self._uploads, f"{transfer}/{where.name}", Path(folder), local)

    def _read(self, path: str, local: Path) -> bool:
        """Read a file of the external stage directly, and return whether that worked.

        SnowflakeFile needs neither a copy nor its removal, but not every environment has it.
        """
        try:
            from snowflake.snowpark.files import SnowflakeFile

            place = _place(self._name, path)
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
            raise BridgeError(f"There is no file {path!r} on the stage {self._name}.")
        shutil.move(fetched, local)

    @contextmanager
    def _transfer(self, session: "Session", stage: Identifier) -> Iterator[str]:
        """Yield a folder of the internal stage for one transfer, and empty it afterwards.

        A failure to empty it never fails the transfer. If Snowflake refuses REMOVE, the files stay.
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
            with self._open() as session:
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
                f"Could not {action} the stage {self._name}: {said}. {fix}"
            ) from masked(error)


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
    """Return a path on a stage; Snowpark quotes and escapes it."""
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
