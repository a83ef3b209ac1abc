"""Artifacts: MLflow uploads them without its tracking store, so they are recorded at their repository.

Recorded are the paths and sizes of the files that are uploaded for a run, a logged model or a trace
of a recorded store. Their content is not part of the event.
"""

import functools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlflow_connections_events._mlflow import ARTIFACT_ASYNC, builders
from mlflow_connections_events._proxy import OnSuccess, call_then, proxy
from mlflow_connections_events.entities import TRACE_FILE, Redact
from mlflow_connections_events.files import root_of
from mlflow_connections_events.vocabulary import MAX_FILES

from ._calls import Record

_MARK = "_mlflow_connections_events"
_MAX_OWNERS = 10_000


class Owner(NamedTuple):
    """The run, logged model or trace whose artifacts are below a URI.

    Attributes:
        emit: Logs an event in the owner's stream, given the kind and the data.
        never_raise: Makes a recording function safe for the call that it records.
        redact: Applied to paths and URIs.
        named: `model` or `trace` with its ID; empty for artifacts of a run itself.
    """

    emit: Callable[[str, Mapping[str, Any]], None]
    never_raise: Callable[[Record], OnSuccess]
    redact: Redact
    named: Mapping[str, str]


_owners: "OrderedDict[str, Owner]" = OrderedDict()
_lock = threading.Lock()


def register_owner(artifact_uri: str | None, owner: Owner) -> None:
    """Remember the owner of a URI: MLflow fetches the run or model just before it uploads."""
    if not artifact_uri:
        return
    with _lock:
        _owners[root_of(artifact_uri)] = owner
        while len(_owners) > _MAX_OWNERS:
            _owners.popitem(last=False)


def record_artifacts() -> None:
    """Wrap MLflow's builders of artifact repositories. A second call wraps those registered since."""
    known = builders("artifact")
    with _lock:
        for scheme, builder in known.items():
            if not hasattr(builder, _MARK):
                known[scheme] = _wrapped(builder)


def _wrapped(builder: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(builder, updated=())
    def build(artifact_uri: str, *args: Any, **kwargs: Any) -> Any:
        repository = builder(artifact_uri, *args, **kwargs)
        root = root_of(str(artifact_uri))
        owner = _owners.get(root)
        return repository if owner is None else _recorded(repository, owner, root)

    setattr(build, _MARK, True)
    return build


def _recorded(repository: Any, owner: Owner, root: str) -> Any:
    upload = functools.partial(_emit, owner, root)
    records: dict[str, Callable[[Any, Any], None]] = {
        "log_artifact": lambda a, _: upload(_file(a.get("artifact_path"), Path(a["local_file"]))),
        "log_artifacts": lambda a, _: upload(
            _files_below(a.get("artifact_path"), Path(a["local_dir"])), a.get("artifact_path") or ""
        ),
        ARTIFACT_ASYNC: lambda a, _: upload(_file(a.get("artifact_path"), Path(a["filename"]))),
        "upload_trace_data": lambda a, _: upload([(TRACE_FILE, len(a["trace_data"].encode()))]),
        "upload_attachment": lambda a, _: upload(
            [(f"attachments/{a['attachment_id']}", len(a["content_bytes"]))]
        ),
    }
    methods = {
        name: call_then(method, owner.never_raise(record))
        for name, record in records.items()
        if (method := getattr(repository, name, None)) is not None
    }
    if hasattr(repository, "for_workspace"):
        methods["for_workspace"] = lambda *a, **k: _recorded(
            repository.for_workspace(*a, **k), owner, root
        )
    return proxy(repository, methods)


def _emit(
    owner: Owner, root: str, files: list[tuple[str, int | None]], folder: str | None = None
) -> None:
    if not files:
        return
    data: dict[str, Any] = {
        "source": owner.redact("artifact_uri", root),
        "files": [[owner.redact("path", path), size] for path, size in files[:MAX_FILES]],
        "count": len(files),
        "bytes": sum(size or 0 for _, size in files),
        **owner.named,
    }
    if folder is not None:
        data["folder"] = owner.redact("path", folder)
    owner.emit("artifacts_uploaded", data)


def _file(folder: str | None, file: Path) -> list[tuple[str, int | None]]:
    return [(_join(folder, file.name), _size(file))]


def _files_below(folder: str | None, local: Path) -> list[tuple[str, int | None]]:
    found = []
    for parent, _, names in os.walk(local):
        relative = Path(parent).relative_to(local).as_posix()
        below = _join(folder, "" if relative == "." else relative)
        found += [(_join(below, name), _size(Path(parent) / name)) for name in names]
    return sorted(found)


def _join(*parts: str | None) -> str:
    return "/".join(part for part in parts if part)


def _size(file: Path) -> int | None:
    # MLflow may write the file later, or may already have removed it.
    return file.stat().st_size if file.is_file() else None


def _after_fork() -> None:
    # A thread that held the lock does not exist in the child, so it would never be released.
    global _lock  # noqa: PLW0603 - a lock cannot be renewed in place
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
