"""Artifact repositories: uploads are copied into the spool, downloads come from there or from the server.

The root of a run that exists on the server stays the server's own, so repositories are wrapped by
their URI. A provisional run's root has its own scheme, `durable:`.
"""

import functools
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE
from mlflow.store.artifact.artifact_repo import ArtifactRepository, verify_artifact_path

from mlflow_connections.secrets import get_logger, mask_uri, masked
from mlflow_connections_events import inner_of
from mlflow_connections_events.files import entries_of, place_in, repository_of, root_of

from ._delivering import is_delivering
from ._kept_files import CannotKeepError, read_small, row_of_small
from ._local import LocalFile
from ._mlflow import artifact_builders
from ._patience import Away
from ._registered_files import MODELS, registered_files
from ._server import FLUSH_SECONDS, DurableServer
from ._uri import SCHEME

logger = get_logger("mlflow_connections_durable")

MAX_FILES = 1_000
"""The maximum number of files in one event; a larger folder becomes several events."""
_MAX_OWNERS = 10_000
_MARK = "_mlflow_connections_durable"


class DurableOwner(NamedTuple):
    """The run, or the logged model, whose artifacts are below a root.

    Attributes:
        server: The state of the server in this process.
        root: The URI.
        run_id: The run, or None for a model without one.
        model_id: The model, or None for a run's own artifacts.
        is_whole: Whether this process created the owner.
        trace_id: The trace, or None for a run or a model.
    """

    server: DurableServer
    root: str
    run_id: str | None
    model_id: str | None
    is_whole: bool
    trace_id: str | None = None


_owners: "OrderedDict[str, DurableOwner]" = OrderedDict()
_lock = threading.RLock()


def register_owner(owner: DurableOwner) -> None:
    """Remember the owner of a root: MLflow fetches a run or a model before it opens its repository."""
    root = owner.root.rstrip("/")
    with _lock:
        known = _owners.get(root)
        if known is None or owner.is_whole or known.server is not owner.server:
            _owners[root] = owner
        while len(_owners) > _MAX_OWNERS:
            _owners.popitem(last=False)


def wrap_artifacts() -> None:
    """Wrap MLflow's builders of artifact repositories. A second call wraps those registered since."""
    known = artifact_builders()
    with _lock:
        for scheme, builder in known.items():
            if scheme != SCHEME and not hasattr(builder, _MARK):
                known[scheme] = _wrapped(builder)


def _wrapped(builder: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(builder, updated=())
    def build(artifact_uri: str, *args: Any, **kwargs: Any) -> Any:
        make = functools.partial(builder, artifact_uri, *args, **kwargs)
        if artifact_uri.startswith(f"{MODELS}:") and not is_delivering():
            return registered_files(artifact_uri, make)
        owner, below = owner_of(artifact_uri)
        if owner is None or is_delivering():
            return make()
        return DurableArtifacts(artifact_uri, owner, below, make)

    setattr(build, _MARK, True)
    return build


def owner_of(uri: str) -> tuple[DurableOwner | None, str]:
    """Return the owner of the root that equals or contains a URI, and the path below that root."""
    root, below = root_of(str(uri)), ""
    while root:
        if owner := _owners.get(root):
            return owner, below
        root, slash, name = root.rpartition("/")
        if not slash or not root or root.endswith((":", "/")):
            break
        below = f"{name}/{below}" if below else name
    return None, ""


class DurableArtifacts(ArtifactRepository):
    """The artifacts of a run or a model.

    Args:
        artifact_uri: The root, or a folder below it.
        owner: The owner of the root.
        below: The path of the folder below the root.
        make: Builds the server's own repository of the URI; None for a provisional root.
    """

    def __init__(
        self, artifact_uri: str, owner: DurableOwner, below: str, make: Callable[[], Any] | None
    ) -> None:
        super().__init__(artifact_uri)
        self._owner = owner
        self._below = below
        self._make = make
        self._made: Any = None

    def log_artifact(self, local_file: Any, artifact_path: str | None = None) -> None:
        """Keep a copy of a file for the upload."""
        verify_artifact_path(artifact_path)
        if is_delivering():
            self._inner().log_artifact(local_file, artifact_path)
            return
        path = _joined(self._below, artifact_path, os.path.basename(local_file))  # noqa: PTH119 - hot
        content = read_small(local_file)
        server = self._owner.server
        if content is not None:
            row = row_of_small(path, content)
            with server.lock:
                if server.has_room_for_small(len(content)):
                    self._emit({path: LocalFile(len(content), "", content)}, [row], len(content))
                    return
        self._keep([(path, Path(local_file))])

    def log_artifacts(self, local_dir: Any, artifact_path: str | None = None) -> None:
        """Keep copies of all files of a folder for the upload."""
        verify_artifact_path(artifact_path)
        if is_delivering():
            self._inner().log_artifacts(local_dir, artifact_path)
            return
        files = []
        top = Path(os.path.abspath(local_dir))  # noqa: PTH100 - as MLflow does, without the target of links
        for parent, _, names in os.walk(top):
            relative = Path(parent).relative_to(top).as_posix()
            folder = _joined(self._below, artifact_path, "" if relative == "." else relative)
            files += [(_joined(folder, name), Path(parent) / name) for name in names]
        files.sort()
        for start in range(0, len(files), MAX_FILES):
            self._keep(files[start : start + MAX_FILES])

    def _log_artifact_async(
        self, filename: str, artifact_path: str | None = None, artifact: Any = None
    ) -> Any:
        """Keep a picture at once; there is nothing to wait for."""
        import tempfile

        from mlflow.utils.async_logging.run_operations import RunOperations

        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / filename
            if artifact is not None and hasattr(artifact, "save"):
                artifact.save(local)
            self.log_artifact(local, artifact_path)
        return RunOperations([])

    def flush_async_logging(self) -> None:
        """Do nothing: logged data is kept."""

    def list_artifacts(self, path: str | None = None) -> list[Any]:
        """Return the entries of a folder: those logged by this process, and those that the server has."""
        path = (path or "").rstrip("/")
        files = self._owner.server.files_of(self._owner.root)
        full = _joined(self._below, path)
        if full in files.files:
            return []
        found: dict[str, FileInfo] = {}
        local = files.listed(full)
        try:
            for entry in self._fetched(lambda inner: entries_of(inner, path or None)):
                found[entry.path] = entry
        except (Away, _NotThereYet) as error:
            if not self._owner.is_whole and not local:
                raise self._refusal(error, f"the artifacts of {self._named()}") from None
        cut = len(self._below) + 1 if self._below else 0
        for name, size in local.items():
            found[name[cut:]] = FileInfo(name[cut:], size is None, size)
        return sorted(found.values(), key=lambda entry: str(entry.path))

    def _download_file(self, remote_file_path: str, local_path: Any) -> None:
        server, full = self._owner.server, _joined(self._below, remote_file_path)
        file = server.files_of(self._owner.root).files.get(full)
        if file is not None and file.content is not None:
            Path(local_path).write_bytes(file.content)
            return
        if file is not None and file.upload:
            kept = server.kept.path(file.upload, full)
            if kept is not None:
                try:
                    shutil.copyfile(kept, local_path)
                except FileNotFoundError:
                    pass  # delivered at this moment
                else:
                    return
        try:
            # MLflow's subclasses are called with these names.
            self._fetched(
                lambda inner: inner._download_file(
                    remote_file_path=place_in(inner, remote_file_path), local_path=local_path
                )
            )
        except (Away, _NotThereYet) as error:
            raise self._refusal(error, f"the artifact {full} of {self._named()}") from None

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete artifacts on the server, once it has everything that was logged."""
        files = self._owner.server.files_of(self._owner.root)
        try:
            self._fetched(lambda inner: inner.delete_artifacts(artifact_path))
        except (Away, _NotThereYet) as error:
            raise self._refusal(error, f"the artifacts of {self._named()}") from None
        full = _joined(self._below, artifact_path)
        for path in list(files.files):
            if not full or path == full or path.startswith(f"{full}/"):
                del files.files[path]

    # ----- the copies

    def _keep(self, files: Sequence[tuple[str, Path]]) -> None:
        if not files:
            return
        owner = self._owner
        try:
            upload, sizes = owner.server.kept.keep(files)
        except CannotKeepError as error:
            self._send_directly(files, error)
            return
        if owner.server.sends_directly:
            owner.server.sends_directly = False
            logger.warning("Copies of artifacts are kept on this machine again.")
        kept = {p: LocalFile(size, upload) for (p, _), size in zip(files, sizes, strict=True)}
        rows = [[path, file.size, upload] for path, file in kept.items()]
        with owner.server.lock:
            self._emit(kept, rows, sum(sizes))

    def _emit(self, files: Mapping[str, LocalFile], rows: list[list[Any]], size: int) -> None:
        """Append the event of an upload with its size in bytes. The caller holds the server's lock."""
        owner = self._owner
        data: dict[str, Any] = {
            "source": owner.root,
            "files": rows,
            "count": len(rows),
            "bytes": size,
        }
        if owner.model_id is not None:
            data["model"] = owner.model_id
        if owner.trace_id is not None:
            data["trace"] = owner.trace_id
        owner.server.files_of(owner.root).files.update(files)
        stream = owner.run_id or owner.model_id or owner.trace_id or ""
        owner.server.emit(stream, "artifacts_uploaded", data)

    def _send_directly(self, files: Sequence[tuple[str, Path]], error: OSError) -> None:
        """Upload files at once, because no copy can be kept."""
        why = f"no copy can be kept on this machine ({error.strerror or error})"
        server = self._owner.server
        if not server.sends_directly:
            server.sends_directly = True
            logger.warning(
                "%s: artifacts go to the MLflow server at %s directly, and each call waits for it. Make "
                "room, or set MLFLOW_CONNECTIONS_OUTBOX_DIR to another disk.",
                why[0].upper() + why[1:],
                mask_uri(server.target),
            )
        cut = len(self._below) + 1 if self._below else 0
        for path, local in files:
            folder = path[cut:].rpartition("/")[0] or None
            try:
                self._fetched(lambda inner: inner.log_artifact(str(local), folder))  # noqa: B023
            except (Away, _NotThereYet) as away:
                raise MlflowException(
                    f"The artifact {path} of {self._named()} is not logged: {why}, and the server "
                    f"cannot take it now ({away}).",
                    TEMPORARILY_UNAVAILABLE,
                ) from masked(error)

    # ----- the server

    def _inner(self) -> Any:
        """Return the server's repository.

        Raises:
            _NotThereYet: The owner does not exist on the server yet.
        """
        if self._made is not None:
            return self._made
        if self._make is not None:
            self._made = self._make()
            return self._made
        server, root = self._owner.server, self._owner.root.rstrip("/")
        if server.ids.get(root) is None:
            server.ids.refresh()
        real = server.ids.get(root)
        if real is None:
            raise _NotThereYet(f"{self._named()} waits to be created there")
        uri = _joined(real, self._below)
        self._made = repository_of(uri, server.target)
        return self._made

    def _fetched(self, call: Callable[[Any], Any]) -> Any:
        """Call the server's repository, once the server has everything that was logged before."""
        server = self._owner.server
        if server.is_offline:
            raise _NotThereYet("'server' is 'offline'")
        server.catch_up(FLUSH_SECONDS)
        return server.patience.wait(lambda: call(self._inner()), server.probe)

    def _refusal(self, error: Exception, what: str) -> MlflowException:
        return MlflowException(
            f"Only the MLflow server at {mask_uri(self._owner.server.target)} has {what}, and "
            f"cannot be asked now: {str(error).rstrip('.')}.",
            TEMPORARILY_UNAVAILABLE,
        )

    def _named(self) -> str:
        owner = self._owner
        if owner.trace_id:
            return f"the trace {owner.trace_id}"
        return f"the model {owner.model_id}" if owner.model_id else f"the run {owner.run_id}"


class _NotThereYet(Exception):  # noqa: N818 - said of a run
    """The owner of artifacts does not exist on the server yet."""


def provisional_artifacts(artifact_uri: str, *_: Any, **more: Any) -> Any:
    """Build the repository of a provisional run or model, for the scheme `durable`.

    Raises:
        MlflowException: This process does not know it, and the server does not have it yet.
    """
    owner, below = owner_of(artifact_uri)
    if owner is not None:
        return DurableArtifacts(artifact_uri, owner, below, None)
    from mlflow.tracking import get_tracking_uri

    from ._server import server_of
    from ._uri import parse

    uri = str(more.get("tracking_uri") or get_tracking_uri())
    if uri.startswith(SCHEME):
        server = server_of(parse(uri))
        server.ids.refresh()
        root, below = artifact_uri.rstrip("/"), ""
        while "/" in root:
            if real := server.ids.get(root):
                return repository_of(_joined(real, below), inner_of(uri) or uri)
            root, name = root.rsplit("/", 1)
            below = f"{name}/{below}" if below else name
    raise MlflowException(
        f"The artifacts at {artifact_uri} belong to a run or a model that waits for its server, and "
        "this process did not create it.",
        RESOURCE_DOES_NOT_EXIST,
    )


def _joined(*parts: str | None) -> str:
    return "/".join(part for part in parts if part)


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - a lock cannot be renewed in place
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
