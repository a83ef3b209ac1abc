"""The files of stages: internal ones in the stand-in's folder, external ones in the folder of a bucket.

The connector itself copies files to and from internal stages, with its protocol for a local disk,
so a client must run on the same machine as the stand-in.
"""

import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any

from mlflow_connections_sandbox._snowflake._errors import (
    SqlError,
    compilation,
    does_not_exist,
    insufficient,
)
from mlflow_connections_sandbox._snowflake._results import Rows
from mlflow_connections_sandbox._snowflake._session import SqlSession
from mlflow_connections_sandbox._snowflake.external._clouds import Clouds, storage_identity
from mlflow_connections_sandbox._snowflake.sql._file_commands import (
    FileCommand,
    StageRef,
    parse_stage,
)
from mlflow_connections_sandbox._snowflake.sql._statements import Target

from ._catalog import Catalog, CatalogEntry
from ._privileges import Privileges


class Stages:
    """Executes file commands.

    Attributes:
        root: The folder of internal stages.
        buckets: The folder of each cloud location: `s3://…/`, `gcs://…/`, `azure://…/`.
    """

    def __init__(self, root: Path, catalog: Catalog, access: Privileges, clouds: Clouds) -> None:
        self.root = root
        self._catalog = catalog
        self._access = access
        self._clouds = clouds
        self.buckets: dict[str, Path] = {}

    def is_known(self, command: FileCommand, session: SqlSession) -> bool:
        """Return whether the command names a permanent stage; fakesnow stores temporary ones."""
        key = self._catalog.key(Target("STAGE", command.stage.name), session)
        return command.source is not None or self._catalog.find(key) is not None

    def execute(self, command: FileCommand, session: SqlSession) -> "Rows | Mapping[str, Any]":
        """Execute a command, and return rows, or for PUT and GET the data that the client needs to copy files.

        Raises:
            SqlError: A stage does not exist, or the session may not do this with it.
        """
        if command.verb == "PUT":
            return self._put(command, session)
        if command.verb == "GET":
            return self._get(command, session)
        if command.verb == "LIST":
            return self._list(command, session)
        if command.verb == "REMOVE":
            return self._remove(command, session)
        return self._copy(command, session)

    def file(self, ref: StageRef, session: SqlSession) -> Path:
        """Return the path of one file of a stage.

        Raises:
            SqlError: The stage or the file does not exist, or may not be read.
        """
        path = self._folder(self._stage(ref, session, "READ")) / ref.path
        if not path.is_file():
            raise compilation(f"Remote file '{ref.path}' was not found.", 91016, "22000")
        return path

    def read(self, ref: StageRef, session: SqlSession) -> Mapping[str, Any]:
        """Return the path at which SnowflakeFile finds a file, on an internal or an external stage.

        Raises:
            SqlError: The stage or the file does not exist, or must not be read.
        """
        return {"path": str(self.file(ref, session))}

    def stream(self, ref: StageRef, session: SqlSession) -> Mapping[str, Any]:
        """Return the path at which `session.file.get_stream` finds a file, on an internal stage.

        Raises:
            SqlError: The stage is an external one, or has no such file, or must not be read.
        """
        entry = self._stage(ref, session, "READ")
        if "URL" in entry.properties:
            raise _no_transfer(entry)
        return self.read(ref, session)

    def copy_rows(
        self, target: StageRef, rows: Sequence[Sequence[Any]], session: SqlSession
    ) -> Rows:
        """Copy the files that a query returned, each under its new name if there is one.

        As in Snowflake, a file that does not exist is silently skipped. Scoped URLs are not
        supported.

        Raises:
            SqlError: A row does not name a file on a stage, or a stage may not be used.
        """
        goal = self._folder(self._stage(target, session, "WRITE"))
        copied: list[list[Any]] = []
        for url, *names in rows:
            source = parse_stage(str(url))
            found = self._folder(self._stage(source, session, "READ")) / source.path
            name = str(names[0]) if names and names[0] is not None else found.name
            landed = goal / target.path / parse_stage(f"@x/{name}").path
            if found.is_file():
                landed.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found, landed)
                copied.append([_relative(goal, landed)])
        return Rows(("file",), copied)

    def clear(self, entry: CatalogEntry) -> None:
        """Delete the files of an internal stage that was dropped or replaced."""
        if "URL" not in entry.properties:
            shutil.rmtree(self._internal(entry), ignore_errors=True)

    def check(self, properties: Mapping[str, Any], session: SqlSession) -> None:
        """Check the clauses of a stage.

        Raises:
            SqlError: Its storage integration does not allow its location.
        """
        url = properties.get("URL")
        name = properties.get("STORAGE_INTEGRATION")
        if name is None:
            if url is not None:
                raise compilation(f"Location '{url}' needs a STORAGE_INTEGRATION here.", 3167)
            return
        if url is None:
            raise compilation("STORAGE_INTEGRATION needs a URL.", 1008)
        integration = self._access.require(session, "USAGE", ("INTEGRATION", name, None))
        if integration.kind != "STORAGE INTEGRATION":
            raise does_not_exist("INTEGRATION", name)
        _check_location(url, integration)

    def _put(self, command: FileCommand, session: SqlSession) -> Mapping[str, Any]:
        entry = self._stage(command.stage, session, "WRITE")
        if "URL" in entry.properties:
            raise _no_transfer(entry)
        folder = self._internal(entry) / command.stage.path
        folder.mkdir(parents=True, exist_ok=True)
        return {
            "command": "UPLOAD",
            "src_locations": [command.local],
            "parallel": command.options.get("PARALLEL", 4),
            "autoCompress": command.options.get("AUTO_COMPRESS", True),
            "sourceCompression": command.options.get("SOURCE_COMPRESSION", "AUTO_DETECT").lower(),
            "overwrite": command.options.get("OVERWRITE", False),
            "stageInfo": {"locationType": "LOCAL_FS", "location": str(folder), "creds": {}},
        }

    def _get(self, command: FileCommand, session: SqlSession) -> Mapping[str, Any]:
        entry = self._stage(command.stage, session, "READ")
        if "URL" in entry.properties:
            raise _no_transfer(entry)
        root = self._folder(entry)
        found = _files(root, command.stage.path, command.options.get("PATTERN"))
        return {
            "command": "DOWNLOAD",
            "src_locations": [path.relative_to(root).as_posix() for path in found],
            "localLocation": command.local,
            "parallel": command.options.get("PARALLEL", 10),
            "encryptionMaterial": [],
            "stageInfo": {"locationType": "LOCAL_FS", "location": str(root), "creds": {}},
        }

    def _list(self, command: FileCommand, session: SqlSession) -> Rows:
        entry = self._stage(command.stage, session, "READ")
        root = self._folder(entry)
        prefix = entry.properties.get("URL") or f"{entry.name[-1].lower()}/"
        rows: list[list[Any]] = []
        for path in _files(root, command.stage.path, command.options.get("PATTERN")):
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            stat = path.stat()
            name = f"{prefix.rstrip('/')}/{path.relative_to(root).as_posix()}"
            rows.append([name, stat.st_size, digest, formatdate(stat.st_mtime, usegmt=True)])
        return Rows(
            ("name", "size", "md5", "last_modified"), rows, ("text", "fixed", "text", "text")
        )

    def _remove(self, command: FileCommand, session: SqlSession) -> Rows:
        entry = self._stage(command.stage, session, "WRITE")
        root = self._folder(entry)
        rows: list[list[Any]] = []
        for path in _files(root, command.stage.path, command.options.get("PATTERN")):
            path.unlink()
            rows.append(
                [f"{entry.name[-1].lower()}/{path.relative_to(root).as_posix()}", "removed"]
            )
        return Rows(("name", "result"), rows)

    def _copy(self, command: FileCommand, session: SqlSession) -> Rows:
        assert command.source is not None  # noqa: S101 - the parser always sets it
        source = self._stage(command.source, session, "READ")
        target = self._stage(command.stage, session, "WRITE")
        base = self._folder(source)
        goal = self._folder(target)
        rows: list[list[Any]] = []
        names = command.options.get("FILES")
        prefix = command.source.path
        wanted = [f"{prefix}{name}" for name in names] if names is not None else [prefix]
        for one in wanted:
            # Names that do not exist are silently skipped, as in Snowflake.
            for path in _files(base, one, command.options.get("PATTERN")):
                # The path after the last slash of the source is kept below the target.
                below = _relative(base, path)[len(prefix.rpartition("/")[0]) :].lstrip("/")
                landed = goal / command.stage.path / below
                landed.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, landed)
                rows.append([_relative(goal, landed)])
        return Rows(("file",), rows)

    def _stage(self, ref: StageRef, session: SqlSession, need: str) -> CatalogEntry:
        key = self._catalog.key(Target("STAGE", ref.name), session)
        entry = self._access.see(session, key)
        privilege = "USAGE" if "URL" in entry.properties else need
        if not self._access.holds(session.role, privilege, key) and not (
            privilege == "READ" and self._access.holds(session.role, "WRITE", key)
        ):
            raise insufficient("STAGE", key[1])
        return entry

    def _folder(self, entry: CatalogEntry) -> Path:
        """Return the folder of a stage's files; the cloud of an external stage must trust Snowflake."""
        url: str | None = entry.properties.get("URL")
        if url is None:
            return self._internal(entry)
        integration = self._catalog.get(
            ("INTEGRATION", entry.properties["STORAGE_INTEGRATION"], None)
        )
        if not integration.properties["ENABLED"]:
            raise compilation(f"Integration '{integration.name[0]}' is not enabled.", 2003)
        _check_location(url, integration)
        if not self._clouds.is_trusted(storage_identity(integration.properties)):
            raise SqlError(
                3167,
                "22000",
                f"Error assuming the storage identity of integration '{integration.name[0]}' for "
                f"'{url}'. Verify the cloud's trust policy.",
            )
        for base, folder in self.buckets.items():
            if url.startswith(base):
                return folder / url.removeprefix(base)
        raise SqlError(91003, "55000", f"Failure using stage area. Cause: [No such bucket: {url}]")

    def _internal(self, entry: CatalogEntry) -> Path:
        # Names may contain any character, including a slash.
        digest = hashlib.sha256("\0".join(entry.name).encode()).hexdigest()[:16]
        return self.root / digest


def _files(root: Path, prefix: str, pattern: str | None) -> list[Path]:
    """Return the files whose path on the stage begins with a prefix, such as a folder."""
    if not root.is_dir():
        return []
    found = []
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name = _relative(root, path)
        if name.startswith(prefix) and (pattern is None or re.fullmatch(pattern, name)):
            found.append(path)
    return found


def _no_transfer(entry: CatalogEntry) -> SqlError:
    """Return the refusal of PUT and GET for an external stage; `get_stream` is assumed to be refused alike."""
    return SqlError(
        91003,
        "22000",
        "Failure using stage area. Cause: [S GET and PUT commands are not supported with external stage "
        f"'{entry.name[-1]}']",
    )


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _check_location(url: str, integration: CatalogEntry) -> None:
    allowed = integration.properties["STORAGE_ALLOWED_LOCATIONS"]
    blocked = integration.properties.get("STORAGE_BLOCKED_LOCATIONS", ())
    if any(url.startswith(b) for b in blocked) or not any(
        a == "*" or url.startswith(a) for a in allowed
    ):
        raise compilation(
            f"Location '{url}' is not allowed by integration '{integration.name[0]}'. Please use "
            "DESC INTEGRATION to check out allowed and blocked locations.",
            3167,
        )
