"""All SQL of a pipeline, and its deployment. It can be run again at any time; each run is a new run.

    USE WAREHOUSE n
    ALTER TASK IF EXISTS n SUSPEND
    CREATE OR REPLACE TASK n WAREHOUSE = n [AFTER n, … | FINALIZE = n] … AS SELECT 1 | CALL n(…)
    ALTER TASK n RESUME
    DROP TASK IF EXISTS n
    EXECUTE TASK n [RETRY LAST]

The statements that upload the code are in `_code`. Deploying unchanged code and settings runs only
the last statement: the finalizer's comment contains a digest of all others.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlflow_connections_snowflake._names import Identifier, literal
from mlflow_connections_snowflake._provision import apply
from mlflow_connections_snowflake._statement import Statement
from mlflow_connections_snowflake.store import Bridge

from ._code import (
    PART,
    Archives,
    code,
    old_procedures,
    procedures,
    use_warehouse,
    version_of,
)
from ._plan import Plan
from ._task_names import suffixed
from ._watch import TaskHistory, ask

if TYPE_CHECKING:
    from rich.console import Console
    from snowflake.snowpark import Row, Session

    from ._watch import Try

BURST = 20
"""Batches of a node that are sent immediately: buffered values are lost if its process is killed."""

_AGAIN = "Fix the cause and run the command again."
_COMMENT = "mlflow-connections "
_STARTED = "started"


def statements(plan: Plan, archives: Archives) -> list[Statement]:
    """Return every statement, in order: the code, the tasks, and the start."""
    version = version_of(plan, archives)
    return [
        use_warehouse(plan),
        *code(plan, archives, version),
        *_tasks(plan, version),
        start(plan),
    ]


def retry_statements(plan: Plan, archives: Archives, version: str) -> list[Statement]:
    """Return the statements that rerun the failed tasks of the last run with the current code.

    Snowflake retries only an unchanged graph, so the code replaces that of the last run's version.
    """
    return [use_warehouse(plan), *code(plan, archives, version), start(plan, retry=True)]


def start(plan: Plan, *, retry: bool = False) -> Statement:
    """Return the statement that starts the pipeline, or reruns the failed tasks of its last run."""
    last = " RETRY LAST" if retry else ""
    return Statement(PART, "start", f"EXECUTE TASK {plan.root.sql}{last}")


def suspend(plan: Plan) -> Statement:
    """Return the statement that allows changes to the graph."""
    return Statement(
        PART,
        "a graph changes only while its root is suspended",
        f"ALTER TASK IF EXISTS {plan.root.sql} SUSPEND",
    )


def drop_task(name: Identifier) -> Statement:
    """Return the statement that drops the task of a node that no longer exists."""
    return Statement(PART, f"drop task {name}", f"DROP TASK IF EXISTS {name.sql}")


def script(plan: Plan, written: list[Statement]) -> str:
    """Return statements as a file for people to read and for Snowflake to run."""
    lines = [f"-- Kedro pipeline {plan.pipeline} of {plan.package}. Run it again at any time.\n"]
    # A node's name may contain a line break, which would end the comment.
    lines += [f"-- {' '.join(one.purpose.split())}\n{one.sql};\n" for one in written]
    return "\n".join(lines)


def deploy(
    session: "Session",
    plan: Plan,
    archives: Archives,
    history: TaskHistory,
    console: "Console",
    *,
    retry: bool = False,
) -> "set[Try]":
    """Upload the changed parts of a pipeline to Snowflake, and start it.

    Args:
        session: A session that may create tasks, procedures and stages.
        plan: The pipeline.
        archives: Its code.
        history: The runs of its tasks.
        console: Shows the progress.
        retry: Rerun the failed tasks of the last run, with the current code.

    Returns:
        The attempts that began before this one.

    Raises:
        BridgeError: A statement failed. The message names it and quotes Snowflake.
    """
    mlflow = plan.settings.mlflow
    experiment = f", MLflow experiment {mlflow.experiment_name}" if mlflow else ""
    console.print(
        f"{plan.package}, pipeline {plan.pipeline}: {len(plan.steps)} nodes{experiment}",
        markup=False,
    )
    with console.status("") as shown:
        account = _Deployed(session, plan)
        if retry:
            version = account.version or version_of(plan, archives)
            *written, go = retry_statements(plan, archives, version)
        else:
            version = version_of(plan, archives)
            *written, go = statements(plan, archives)
            written = account.changes(written, version)

        def progress(number: int, statement: Statement) -> None:
            purpose = " ".join(statement.purpose.split()).replace("[", r"\[")
            shown.update(f"{number}/{len(written)} {purpose}")

        apply(session, written, progress, again=_AGAIN)
        uploads = any(statement.sql.startswith("PUT ") for statement in written)
        console.print(
            f"Deployed: {len(written)} statements, {archives.size / 1000:.0f} kB of code."
            if uploads
            else f"Deployed: {len(written)} statements; the code is unchanged."
            if written
            else "Deployed: nothing changed."
        )
        runs = history.runs()
        before = {run.id for run in runs}
        if written and not retry and all(run.has_ended for run in runs):
            # The previous version stays, too: its run may no longer be in the history.
            stale = old_procedures(plan, account.procedures, {version, account.version})
            apply(session, stale, again=_AGAIN)
        apply(session, [go], again=_AGAIN)
    return before


class _Deployed:
    """The tasks and procedures of a pipeline that the account already has.

    Attributes:
        procedures: The names of all procedures in the schema.
        version: The version that the tasks call; empty if there is none.
    """

    def __init__(self, session: "Session", plan: Plan) -> None:
        self._plan = plan
        home = Identifier(plan.root.parts[:2])
        rows = ask(session, f"SHOW TASKS IN SCHEMA {home.sql}")
        before = f"{plan.root.object}__"
        self._tasks: dict[str, Row] = {
            str(row["name"]): row
            for row in rows
            if row["name"] == plan.root.object or str(row["name"]).startswith(before)
        }
        found = ask(session, f"SHOW PROCEDURES IN SCHEMA {home.sql}")
        self.procedures = sorted({str(row["name"]) for row in found})
        end = self._tasks.get(plan.end.object)
        match = re.search(r"__END_RUN__([0-9A-F]{8})\"", str(end["definition"])) if end else None
        self.version = match[1] if match else ""

    def changes(self, written: list[Statement], version: str) -> list[Statement]:
        """Return the statements that are needed, preceded by those that drop old tasks."""
        names = {name.object for name in procedures(self._plan, version).values()}
        has_code = names <= set(self.procedures)
        stale = [name for name in self._tasks if name not in self._plan.tasks]
        if has_code and not stale and self._is_unchanged(written):
            return []
        drops = [suspend(self._plan), *(drop_task(self._plan.root.sibling(n)) for n in stale)]
        tasks = [statement for statement in written if _is_about_tasks(statement)]
        if has_code:
            return [*(drops if stale else ()), *tasks]
        return [*(drops if stale else ()), *written]

    def _is_unchanged(self, written: list[Statement]) -> bool:
        plan = self._plan
        end = self._tasks.get(plan.end.object)
        if end is None or set(self._tasks) != set(plan.tasks):
            return False
        comment = next(
            match[0]
            for statement in written
            if (match := re.search(rf"(?<=COMMENT = '){_COMMENT}[0-9a-f]+", statement.sql))
        )
        # A task that is not resumed counts as succeeded, so each state matters.
        wanted = {name: _STARTED for name in plan.tasks if name != plan.root.object}
        if plan.settings.schedule:
            wanted[plan.root.object] = _STARTED
        return str(end["comment"]) == comment and all(
            self._tasks[name]["state"] == state for name, state in wanted.items()
        )


def _is_about_tasks(statement: Statement) -> bool:
    return " TASK " in statement.sql.partition("\n")[0]


def _tasks(plan: Plan, version: str) -> Iterator[Statement]:
    written = list(_created(plan, version))
    digest = hashlib.sha256("\0".join(one.sql for one in written).encode()).hexdigest()[:16]
    *others, end = written
    yield suspend(plan)
    yield from others
    first, _, rest = end.sql.partition("\n")
    yield end._replace(sql=f"{first}\n  COMMENT = '{_COMMENT}{digest}'\n{rest}")
    settings = plan.settings
    mlflow = [plan.mlflow] if settings.mlflow else []
    # The root is last: its schedule counts from then on.
    for name in (
        *mlflow,
        *(s.task for s in plan.steps),
        plan.end,
        *([plan.root] if settings.schedule else []),
    ):
        yield Statement(PART, f"{name.object} is ready", f"ALTER TASK {name.sql} RESUME")


def _created(plan: Plan, version: str) -> Iterator[Statement]:
    """Yield the statements that create the tasks; the finalizer's are last."""
    settings, root = plan.settings, plan.root
    called = procedures(plan, version)
    yield _task(
        root,
        plan,
        "the root",
        *([f"SCHEDULE = {literal(settings.schedule)}"] if settings.schedule else []),
        f"CONFIG = {literal(_config(plan))}",
        *([f"TASK_AUTO_RETRY_ATTEMPTS = {settings.retries}"] if settings.retries else []),
        "AS SELECT 1",
    )
    if settings.mlflow:
        yield _task(
            plan.mlflow,
            plan,
            "the MLflow run",
            f"AFTER {root.sql}",
            f"AS CALL {called['start_run'].sql}()",
        )
    limit = settings.timeout_minutes
    for step in plan.steps:
        arguments = f"{literal(step.node)}, {literal(step.after[0].object)}"
        yield _task(
            step.task,
            plan,
            f"the node {step.node}",
            *([f"USER_TASK_TIMEOUT_MS = {limit * 60_000}"] if limit else []),
            f"AFTER {', '.join(one.sql for one in step.after)}",
            f"AS CALL {called['run_node'].sql}({arguments})",
        )
    yield _task(
        plan.end,
        plan,
        "the end, which always runs",
        f"FINALIZE = {root.sql}",
        f"AS CALL {called['end_run'].sql}({len(plan.steps)})",
    )


def _task(name: Identifier, plan: Plan, purpose: str, *clauses: str) -> Statement:
    *middle, last = clauses
    lines = (
        f"CREATE OR REPLACE TASK {name.sql}",
        f"WAREHOUSE = {plan.settings.warehouse.sql}",
        *middle,
        last,
    )
    return Statement(PART, purpose, "\n  ".join(lines))


def _config(plan: Plan) -> str:
    """Return the information that the procedures need, as the graph's CONFIG."""
    config = {
        "pipeline": plan.pipeline,
        "env": plan.env,
        "params": dict(plan.params),
        "stage": str(plan.settings.stage),
        "tables": str(suffixed(plan.root, "DATA")),
    }
    if (mlflow := plan.settings.mlflow) is not None:
        access = mlflow.external_access
        uri = Bridge.of(mlflow, burst=BURST).uri() if access is None else access.url
        config["mlflow"] = {
            "tracking_uri": uri,
            "experiment": mlflow.experiment_name,
            "source": plan.package,
        }
    return json.dumps(config)
