"""The SQL that brings a pipeline's code to Snowflake: a stage, two archives, the procedures.

CREATE STAGE IF NOT EXISTS n
PUT 'file://…' '@n/…' AUTO_COMPRESS = FALSE OVERWRITE = TRUE
CREATE OR REPLACE PROCEDURE n(…) RETURNS VARCHAR LANGUAGE PYTHON … EXECUTE AS CALLER AS $$…$$
"""

from collections.abc import Iterator
from pathlib import Path

from mlflow_connections import InvalidOptionError
from mlflow_connections_snowflake._names import literal, literals
from mlflow_connections_snowflake._statement import Statement, Thing, create

from ._archive import Archives
from ._names import beside
from ._plan import Plan

PART = "pipeline"

_HANDLERS = "mlflow_connections_snowflake.kedro.procedures"
_PURPOSES = {
    "start_run": "makes the MLflow run, and hands its id on",
    "run_node": "runs one node",
    "end_run": "ends the MLflow run, and clears the data between the nodes away",
}


def code(plan: Plan, archives: Archives) -> Iterator[Statement]:
    """Give what brings the code to Snowflake."""
    stage = Thing("STAGE", plan.settings.stage)
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
