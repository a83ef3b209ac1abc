"""The code of a pipeline in Snowflake: two zips on a stage, and the procedures that import them.

    CREATE STAGE IF NOT EXISTS n
    PUT 'file://…' '@n/…' AUTO_COMPRESS = FALSE OVERWRITE = TRUE
    CREATE OR REPLACE PROCEDURE n(…) RETURNS VARCHAR LANGUAGE PYTHON … EXECUTE AS CALLER AS $$…$$
    DROP PROCEDURE IF EXISTS n(…)

The same content gives the same bytes, so a digest shows whether the code changed. The digest is part
of the procedures' names: a run that has started keeps its own procedures when another version is
deployed.
"""

import hashlib
import importlib.util
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

from mlflow_connections import InvalidOptionError
from mlflow_connections_snowflake._config import DEFAULT_SECRET
from mlflow_connections_snowflake._names import Identifier, literal, literals
from mlflow_connections_snowflake._sql import procedure_clauses
from mlflow_connections_snowflake._statement import SqlObject, Statement, create, drop

from ._plan import Plan
from ._task_names import PROJECT_ARCHIVE, secret_variable, suffixed

PART = "pipeline"
OWN_ARCHIVE = "mlflow_connections.zip"

_OWN = {
    "mlflow-connections": "mlflow_connections",
    "mlflow-connections-snowflake": "mlflow_connections_snowflake",
}
_LEFT_OUT = ("__pycache__", "starter")
_EPOCH = (1980, 1, 1, 0, 0, 0)

_HANDLERS = "mlflow_connections_snowflake.kedro.procedures"
_PURPOSES = {
    "start_run": "creates the MLflow run, and passes its ID on",
    "run_node": "runs one node",
    "end_run": "ends the MLflow run, and removes the data between the nodes",
}
_ARGUMENTS = {
    "start_run": "",
    "run_node": "node VARCHAR, predecessor VARCHAR",
    "end_run": "nodes NUMBER",
}
_TYPES = {"start_run": (), "run_node": ("VARCHAR", "VARCHAR"), "end_run": ("NUMBER",)}


class Archives(NamedTuple):
    """Both archives on this machine.

    Attributes:
        project: The project's archive.
        own: This package's archive.
        digest: A digest of both.
    """

    project: Path
    own: Path
    digest: str

    @property
    def size(self) -> int:
        """Their size in bytes."""
        return self.project.stat().st_size + self.own.stat().st_size


def write(folder: Path, project: Mapping[str, bytes]) -> Archives:
    """Write both archives into a folder.

    Args:
        folder: The folder, created if necessary.
        project: The project's files by their path in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / PROJECT_ARCHIVE, folder / OWN_ARCHIVE
    digest = hashlib.sha256()
    for path, files in zip(paths, (project, dict(_own_files())), strict=True):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(files):
                archive.writestr(_entry(name), files[name])
        digest.update(path.read_bytes())
    return Archives(*paths, digest.hexdigest()[:16])


def project_files(
    project: Path, source: Path, conf: Path, environments: Iterable[str], data: Iterable[Path]
) -> dict[str, bytes]:
    """Read the files of a project that its pipelines need: code, configuration, data.

    Files whose name begins with `credentials` are never read.

    Args:
        project: The project's folder.
        source: The folder of its code.
        conf: The folder of its configuration.
        environments: The environments in use.
        data: Files that its pipelines read.
    """
    paths = [project / "pyproject.toml", *data, *_below(source)]
    paths += [path for path in conf.iterdir() if path.is_file()]
    found = {}
    for environment in environments:
        paths += _below(conf / environment)
        # Kedro needs each environment's folder, and a zip has no empty folders.
        found[_inside(conf / environment / ".gitkeep", project)] = b""
    for path in paths:
        name = _inside(path, project)
        if not any(part.startswith("credentials") for part in name.split("/")):
            found[name] = path.read_bytes()
    return found


def version_of(plan: Plan, archives: Archives) -> str:
    """Return the digest of everything that a pipeline's procedures run, eight characters."""
    settings = plan.settings
    parts = (archives.digest, *settings.packages, settings.repository.sql, settings.python)
    clauses = "\n".join(_access_clauses(plan))
    text = "\0".join((*parts, clauses))
    return hashlib.sha256(text.encode()).hexdigest()[:8].upper()


def procedures(plan: Plan, version: str) -> dict[str, Identifier]:
    """Return the names of a version's procedures by their handler."""
    handlers = ("start_run", "run_node", "end_run") if plan.settings.mlflow else _WITHOUT_MLFLOW
    return {handler: suffixed(plan.root, f"{handler.upper()}__{version}") for handler in handlers}


_WITHOUT_MLFLOW = ("run_node", "end_run")


def code(plan: Plan, archives: Archives, version: str) -> Iterator[Statement]:
    """Yield the statements that bring a version of the code to Snowflake."""
    stage = SqlObject("STAGE", plan.settings.stage)
    yield create(PART, stage, purpose="the stage for code, and for data between nodes")
    folder = code_folder(plan, archives.digest)
    for path, label in ((archives.project, "the project"), (archives.own, "mlflow-connections")):
        yield Statement(PART, f"{label}, as a zip", _put(path, folder))
    imports = tuple(f"{folder}/{path.name}" for path in (archives.project, archives.own))
    for handler, name in procedures(plan, version).items():
        yield _procedure(plan, handler, name, imports)


def code_folder(plan: Plan, digest: str) -> str:
    """Return the place of the archives with a digest."""
    return f"@{plan.settings.stage.sql}/code/{plan.root.object}/{digest}"


def use_warehouse(plan: Plan) -> Statement:
    """Return the statement that Snowflake needs before it creates a Python procedure (391531)."""
    warehouse = plan.settings.warehouse.sql
    return Statement(PART, "creating a procedure needs a warehouse", f"USE WAREHOUSE {warehouse}")


def old_procedures(plan: Plan, names: Iterable[str], keep: Iterable[str]) -> list[Statement]:
    """Return the statements that drop this pipeline's procedures of other versions.

    Args:
        plan: The pipeline.
        names: The procedures of the schema.
        keep: Versions to keep.
    """
    pattern = re.compile(rf"{re.escape(plan.root.object)}__([A-Z]+_[A-Z]+)__([0-9A-F]{{8}})")
    kept = set(keep)
    dropped = []
    for name in names:
        match = pattern.fullmatch(name)
        if match and match[1].lower() in _TYPES and match[2] not in kept:
            types = _TYPES[match[1].lower()]
            dropped.append(drop(PART, SqlObject("PROCEDURE", plan.root.sibling(name), types)))
    return dropped


def _procedure(plan: Plan, handler: str, name: Identifier, imports: tuple[str, ...]) -> Statement:
    settings = plan.settings
    lines = (
        f"CREATE OR REPLACE PROCEDURE {name.sql}({_ARGUMENTS[handler]})",
        "RETURNS VARCHAR",
        "LANGUAGE PYTHON",
        f"RUNTIME_VERSION = {literal(settings.python)}",
        # Always specified: the default differs between accounts.
        f"ARTIFACT_REPOSITORY = {settings.repository.sql}",
        f"PACKAGES = {literals(settings.packages)}",
        f"IMPORTS = {literals(imports)}",
        f"HANDLER = {literal(handler)}",
        *_access_clauses(plan),
        # Functions that query the current task need caller's rights.
        "EXECUTE AS CALLER",
        f"AS $$\nfrom {_HANDLERS} import {handler}\n$$",
    )
    return Statement(PART, _PURPOSES[handler], "\n  ".join(lines))


def _access_clauses(plan: Plan) -> list[str]:
    mlflow, settings = plan.settings.mlflow, plan.settings
    integrations, secrets = [], {}
    if mlflow is not None and mlflow.external_access is not None:
        integrations.append(mlflow.external_access.integration)
        secrets[DEFAULT_SECRET] = mlflow.external_access.secret
    for entry, one in sorted(settings.secrets.items()):
        integrations.append(one.integration)
        secrets[secret_variable(entry)] = one.secret
    return procedure_clauses(integrations, secrets) if integrations else []


def _put(path: Path, folder: str) -> str:
    if any(sign in str(path) for sign in "*?[]"):
        raise InvalidOptionError(
            f"{path} cannot be uploaded: Snowflake's PUT reads *, ?, [ and ] in a path as "
            "wildcards. Move the project to a folder without them."
        )
    source, target = (_place(text) for text in (f"file://{path.as_posix()}", f"{folder}/"))
    return f"PUT {source} {target} AUTO_COMPRESS = FALSE OVERWRITE = TRUE"


def _place(text: str) -> str:
    """Quote a path for PUT as Snowpark does: clients parse it, and do not support doubled quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


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


def _own_files() -> Iterator[tuple[str, bytes]]:
    """Yield this family's packages, with the metadata in which MLflow finds their entry points."""
    for name, module in _OWN.items():
        spec = importlib.util.find_spec(module)
        assert spec is not None  # noqa: S101 - this package, and its dependency
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
