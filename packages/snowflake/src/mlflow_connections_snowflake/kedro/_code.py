"""What goes to Snowflake as zips: the project, and this package with the core of its family.

The same content gives the same bytes, so that an archive's digest tells whether the code changed.
"""

import hashlib
import importlib.util
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

from mlflow_connections import InvalidOptionError
from mlflow_connections_snowflake._names import literal, literals
from mlflow_connections_snowflake._statement import SqlObject, Statement, create

from ._plan import Plan
from ._task_names import beside

PROJECT, OURS = "project.zip", "mlflow_connections.zip"
_OURS = {
    "mlflow-connections": "mlflow_connections",
    "mlflow-connections-snowflake": "mlflow_connections_snowflake",
}
_LEFT_OUT = ("__pycache__", "starter")
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Archives(NamedTuple):
    """Both archives on this machine.

    Attributes:
        project: The project's.
        ours: This package's.
        digest: Of both.
    """

    project: Path
    ours: Path
    digest: str

    @property
    def size(self) -> int:
        """How many bytes they have."""
        return self.project.stat().st_size + self.ours.stat().st_size


def write(folder: Path, project: Mapping[str, bytes]) -> Archives:
    """Write both archives into a folder.

    Args:
        folder: Where; made if need be.
        project: The project's files by their path in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / PROJECT, folder / OURS
    digest = hashlib.sha256()
    for path, files in zip(paths, (project, dict(_our_files())), strict=True):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(files):
                archive.writestr(_entry(name), files[name])
        digest.update(path.read_bytes())
    return Archives(*paths, digest.hexdigest()[:16])


def project_files(
    project: Path, source: Path, conf: Path, environments: Iterable[str], data: Iterable[Path]
) -> dict[str, bytes]:
    """Read what of a project its pipelines need: code, configuration, data.

    Credentials stay here: nothing whose name begins with `credentials` is read.

    Args:
        project: The project's folder.
        source: Where its code is.
        conf: Where its configuration is.
        environments: Which environments of that are in use.
        data: Files that its pipelines read.
    """
    paths = [project / "pyproject.toml", *data, *_below(source)]
    paths += [path for path in conf.iterdir() if path.is_file()]
    found = {}
    for environment in environments:
        paths += _below(conf / environment)
        # Kedro wants each environment's folder, and a zip has none that is empty.
        found[_inside(conf / environment / ".gitkeep", project)] = b""
    for path in paths:
        name = _inside(path, project)
        if not any(part.startswith("credentials") for part in name.split("/")):
            found[name] = path.read_bytes()
    return found


def _inside(path: Path, project: Path) -> str:
    return path.resolve().relative_to(project.resolve()).as_posix()


def _below(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and "__pycache__" not in path.parts
        and not any(part.endswith(".egg-info") for part in path.relative_to(folder).parts)
    ]


def _our_files() -> Iterator[tuple[str, bytes]]:
    """Give our packages with what tells MLflow of their entry points, installed in whichever way."""
    for name, module in _OURS.items():
        spec = importlib.util.find_spec(module)
        assert spec is not None  # noqa: S101 - this very package, and what it needs
        assert spec.origin is not None  # noqa: S101
        folder = Path(spec.origin).parent
        for path in sorted(folder.rglob("*")):
            inner = path.relative_to(folder)
            if path.is_file() and not any(part in _LEFT_OUT for part in inner.parts):
                yield f"{module}/{inner.as_posix()}", path.read_bytes()
        found = distribution(name)
        for file in ("METADATA", "entry_points.txt"):
            if (text := found.read_text(file)) is not None:
                yield f"{module}-{found.version}.dist-info/{file}", text.encode()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


PART = "pipeline"

_HANDLERS = "mlflow_connections_snowflake.kedro.procedures"
_PURPOSES = {
    "start_run": "makes the MLflow run, and hands its id on",
    "run_node": "runs one node",
    "end_run": "ends the MLflow run, and clears the data between the nodes away",
}


def code(plan: Plan, archives: Archives) -> Iterator[Statement]:
    """Give what brings the code to Snowflake."""
    stage = SqlObject("STAGE", plan.settings.stage)
    yield create(PART, stage, purpose="the stage for code, and for data between nodes")
    folder = f"@{plan.settings.stage.sql}/code/{plan.root.object}/{archives.digest}"
    for path, what in ((archives.project, "the project"), (archives.ours, "mlflow-connections")):
        yield Statement(PART, f"{what}, as a zip", _put(path, folder))
    imports = tuple(f"{folder}/{path.name}" for path in (archives.project, archives.ours))
    if plan.settings.mlflow:
        yield _procedure(plan, "start_run", "", imports)
    yield _procedure(plan, "run_node", "node VARCHAR, predecessor VARCHAR", imports)
    yield _procedure(plan, "end_run", "nodes NUMBER", imports)


def _put(path: Path, folder: str) -> str:
    if any(sign in str(path) for sign in "*?[]"):
        raise InvalidOptionError(
            f"{path} cannot be uploaded: Snowflake's PUT takes *, ?, [ and ] in a path for "
            "wildcards; move the project to a folder without them."
        )
    source, target = (_place(text) for text in (f"file://{path.as_posix()}", f"{folder}/"))
    return f"PUT {source} {target} AUTO_COMPRESS = FALSE OVERWRITE = TRUE"


def _place(text: str) -> str:
    """Quote a place for PUT as Snowpark does: clients read it, and know no doubled quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _procedure(plan: Plan, handler: str, arguments: str, imports: tuple[str, ...]) -> Statement:
    settings = plan.settings
    thing = beside(plan.root, handler.upper())
    lines = (
        f"CREATE OR REPLACE PROCEDURE {thing.sql}({arguments})",
        "RETURNS VARCHAR",
        "LANGUAGE PYTHON",
        f"RUNTIME_VERSION = {literal(settings.python)}",
        *([f"ARTIFACT_REPOSITORY = {settings.repository.sql}"] if settings.repository else []),
        f"PACKAGES = {literals(settings.packages)}",
        f"IMPORTS = {literals(imports)}",
        f"HANDLER = {literal(handler)}",
        # What a procedure asks of its task, it asks as the task does.
        "EXECUTE AS CALLER",
        f"AS $$\nfrom {_HANDLERS} import {handler}\n$$",
    )
    return Statement(PART, _PURPOSES[handler], "\n  ".join(lines))
