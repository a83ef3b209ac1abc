"""Artifacts: MLflow uploads them past its tracking store, so they are captured at their repository.

Captured are the path and the size of what is uploaded to a run, or to a model that it logs, of a
duplicated store; never the content.
"""

import functools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_connections.secrets import mask_uri

from ._delegate import capture, delegate

if TYPE_CHECKING:
    from ._capture import Recorder

FILES_NAMED = 1_000
"""Of one uploaded folder so many files are named; of the rest only the number and the size tell."""

_MARK = "_mlflow_connections_databand"
_LIMIT = 10_000


class Owner(NamedTuple):
    """Whose artifacts lie at a place.

    Attributes:
        recorder: Captures for the store that knows the place.
        run_id: The run that they belong to.
        prefix: The path from the run to the place (`models/m-1`), empty for the run's own artifacts.
    """

    recorder: "Recorder"
    run_id: str
    prefix: str = ""


_owners: "OrderedDict[str, Owner]" = OrderedDict()
_lock = threading.Lock()


def own(artifact_uri: str | None, owner: Owner) -> None:
    """Remember whose artifacts lie at a place, since MLflow asks its store just before it uploads."""
    if not artifact_uri:
        return
    with _lock:
        _owners[artifact_uri.rstrip("/")] = owner
        while len(_owners) > _LIMIT:
            _owners.popitem(last=False)


def capture_artifacts() -> None:
    """Wrap MLflow's builders of artifact repositories. A second call wraps what came since."""
    from mlflow.store.artifact import artifact_repository_registry as registry

    builders = registry._artifact_repository_registry._registry
    with _lock:
        for scheme, builder in builders.items():
            if not hasattr(builder, _MARK):
                builders[scheme] = _wrapped(builder)


def _wrapped(builder: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(builder, updated=())
    def build(artifact_uri: str, *args: Any, **kwargs: Any) -> Any:
        repository = builder(artifact_uri, *args, **kwargs)
        owner = _owners.get(str(artifact_uri).rstrip("/"))
        return repository if owner is None else _captured(repository, owner)

    setattr(build, _MARK, True)
    return build


def _captured(repository: Any, owner: Owner) -> Any:
    records: dict[str, Callable[[Any, Any], None]] = {
        "log_artifact": lambda a, _: _emit(owner, a.get("artifact_path"), [Path(a["local_file"])]),
        "log_artifacts": lambda a, _: _emit_folder(
            owner, a.get("artifact_path"), Path(a["local_dir"])
        ),
        "_log_artifact_async": lambda a, _: _emit(
            owner, a.get("artifact_path"), [Path(a["filename"])]
        ),
    }
    captured = {
        name: capture(method, owner.recorder.guarded(record))
        for name, record in records.items()
        if (method := getattr(repository, name, None)) is not None
    }
    if hasattr(repository, "for_workspace"):
        captured["for_workspace"] = lambda *a, **k: _captured(
            repository.for_workspace(*a, **k), owner
        )
    return delegate(repository, captured)


def _emit(owner: Owner, folder: str | None, files: list[Path]) -> None:
    _emit_files(owner, [(_path(owner, folder, f.name), _size(f)) for f in files])


def _emit_folder(owner: Owner, folder: str | None, local: Path) -> None:
    found = []
    for parent, _, names in os.walk(local):
        relative = Path(parent).relative_to(local).as_posix()
        below = "/".join(part for part in (folder, relative) if part and part != ".")
        found += [(_path(owner, below, name), _size(Path(parent) / name)) for name in names]
    _emit_files(owner, sorted(found))


def _emit_files(owner: Owner, files: list[tuple[str, int | None]]) -> None:
    if files:
        data = {
            "files": [list(file) for file in files[:FILES_NAMED]],
            "count": len(files),
            "bytes": sum(size or 0 for _, size in files),
        }
        owner.recorder.emit(owner.run_id, "artifacts", data)


def _path(owner: Owner, folder: str | None, name: str) -> str:
    return mask_uri("/".join(part for part in (owner.prefix, folder, name) if part))


def _size(file: Path) -> int | None:
    # A file that MLflow writes later, or has removed again, has no size here.
    return file.stat().st_size if file.is_file() else None


def mlflow_artifacts(*args: Any, **kwargs: Any) -> Any:
    """Build MLflow's repository of proxied artifacts, which insists on an http tracking URI."""
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

    return _unwrapping(MlflowArtifactsRepository)(*args, **kwargs)


@functools.cache
def _unwrapping(kind: type) -> type:
    from ._store import inner_tracking_uri

    def resolve_uri(_cls: type, artifact_uri: str, tracking_uri: str) -> str:
        resolved: str = kind.resolve_uri(artifact_uri, inner_tracking_uri(tracking_uri))  # type: ignore[attr-defined]  # MLflow's own class
        return resolved

    return type(kind.__name__, (kind,), {"resolve_uri": classmethod(resolve_uri)})


def _after_fork() -> None:
    # A thread that held the lock is not in the child, and would never let go of it.
    global _lock  # noqa: PLW0603 - a lock cannot be renewed in place
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
