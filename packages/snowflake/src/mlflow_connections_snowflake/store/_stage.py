"""Files on a stage, by Snowpark's own file operations, which quote every place themselves.

A client may neither PUT to an external stage nor GET from one (docs.snowflake.com, PUT and GET). Such
files pass an internal stage, and COPY FILES does the rest.
"""

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from mlflow_connections import ConnectionsError
from mlflow_connections_snowflake._errors import BridgeError
from mlflow_connections_snowflake._names import Name

from ._bridge import Bridge
from ._sessions import speaking

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

    def _get(self, session: "Session", stage: Name, path: str, folder: Path, local: Path) -> None:
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
            with speaking(self._bridge) as session:
                yield session
        except (SnowparkClientException, Error) as error:
            said = " ".join(str(getattr(error, "message", None) or error).split())
            raise BridgeError(
                f"Could not {deed} the stage {self._bridge.stage}: {said.rstrip('.')}. Run "
                "`mlflow-snowflake check`: it names a stage or a grant that is missing."
            ) from error


def _put(session: "Session", stage: Name, folder: str, files: dict[str, Path]) -> None:
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


def _place(stage: Name, path: str = "") -> str:
    """Name a place on a stage; Snowpark puts it into quotes and escapes what is in it."""
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
