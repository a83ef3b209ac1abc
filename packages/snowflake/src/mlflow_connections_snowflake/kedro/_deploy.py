"""All SQL of a pipeline. It can be run again at any time; each run is a new run of the pipeline.

The forms of statements, each name in double quotes:

    ALTER TASK IF EXISTS n SUSPEND
    CREATE OR REPLACE TASK n WAREHOUSE = n [AFTER n, … | FINALIZE = n] … AS SELECT 1 | CALL n(…)
    ALTER TASK n RESUME
    DROP TASK IF EXISTS n
    EXECUTE TASK n [RETRY LAST]

Those that bring the code stand in `_code`.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlflow_connections_snowflake._names import Identifier, literal
from mlflow_connections_snowflake._provision import apply
from mlflow_connections_snowflake._statement import Statement
from mlflow_connections_snowflake.store import Bridge

from ._code import PART, Archives, code
from ._plan import Plan
from ._task_names import beside
from ._watch import TaskHistory, ask

if TYPE_CHECKING:
    from rich.console import Console
    from snowflake.snowpark import Session

    from ._watch import Try


BURST = 20
"""So many sendings of a node go at once, since what waits is lost if its process is killed."""


def statements(plan: Plan, archives: Archives) -> list[Statement]:
    """Give every statement, in order: the code, the tasks, and the start."""
    return [*code(plan, archives), *_tasks(plan), start(plan)]


def start(plan: Plan, *, retry: bool = False) -> Statement:
    """Give what starts the pipeline, or runs again what failed in its last run."""
    last = " RETRY LAST" if retry else ""
    return Statement(PART, "go", f"EXECUTE TASK {plan.root.sql}{last}")


def suspend(plan: Plan) -> Statement:
    """Give what lets the graph be changed."""
    return Statement(
        PART,
        "a graph changes only while its root is suspended",
        f"ALTER TASK IF EXISTS {plan.root.sql} SUSPEND",
    )


def drop_task(name: Identifier) -> Statement:
    """Give what takes away the task of a node that is no longer there."""
    return Statement(PART, f"away with task {name}", f"DROP TASK IF EXISTS {name.sql}")


def script(plan: Plan, written: list[Statement]) -> str:
    """Give statements as a file for people to read and for Snowflake to run."""
    lines = [f"-- Kedro pipeline {plan.pipeline} of {plan.package}. Run it again at any time.\n"]
    # A node's name may hold a line break, which would end the comment.
    lines += [f"-- {' '.join(one.purpose.split())}\n{one.sql};\n" for one in written]
    return "\n".join(lines)


def _tasks(plan: Plan) -> Iterator[Statement]:
    settings, root = plan.settings, plan.root
    yield suspend(plan)
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
            plan.mlflow, plan, "the MLflow run", f"AFTER {root.sql}", _call(plan, "START_RUN")
        )
    limit = settings.timeout_minutes
    for step in plan.steps:
        given = literal(step.node), literal(step.after[0].object)
        yield _task(
            step.task,
            plan,
            f"the node {step.node}",
            *([f"USER_TASK_TIMEOUT_MS = {limit * 60_000}"] if limit else []),
            f"AFTER {', '.join(one.sql for one in step.after)}",
            _call(plan, "RUN_NODE", *given),
        )
    yield _task(
        plan.end,
        plan,
        "the end, whatever happened before",
        f"FINALIZE = {root.sql}",
        _call(plan, "END_RUN", str(len(plan.steps))),
    )
    mlflow = [plan.mlflow] if settings.mlflow else []
    # The root last, from which on the schedule counts.
    for name in (
        *mlflow,
        *(s.task for s in plan.steps),
        plan.end,
        *([root] if settings.schedule else []),
    ):
        yield Statement(PART, f"{name.object} is ready", f"ALTER TASK {name.sql} RESUME")


def _task(name: Identifier, plan: Plan, purpose: str, *clauses: str) -> Statement:
    *middle, last = clauses
    lines = (
        f"CREATE OR REPLACE TASK {name.sql}",
        f"WAREHOUSE = {plan.settings.warehouse.sql}",
        *middle,
        last,
    )
    return Statement(PART, purpose, "\n  ".join(lines))


def _call(plan: Plan, procedure: str, *arguments: str) -> str:
    return f"AS CALL {beside(plan.root, procedure).sql}({', '.join(arguments)})"


def _config(plan: Plan) -> str:
    """What the procedures need to know, as the graph's CONFIG."""
    config = {
        "pipeline": plan.pipeline,
        "env": plan.env,
        "params": dict(plan.params),
        "stage": str(plan.settings.stage),
    }
    if (setup := plan.settings.mlflow) is not None:
        config["mlflow"] = {
            "tracking_uri": Bridge.of(setup, burst=BURST).uri(),
            "experiment": setup.experiment_name,
            "source": plan.package,
        }
    return json.dumps(config)


def deploy(
    session: "Session",
    plan: Plan,
    written: list[Statement],
    history: TaskHistory,
    console: "Console",
    size: int,
) -> "set[Try]":
    """Run the statements, the last of which starts the pipeline.

    Args:
        session: A session that may create tasks, procedures and stages.
        plan: The pipeline.
        written: What `statements` gave.
        history: What its tasks did before.
        console: Where to show what is done.
        size: How many bytes are uploaded.

    Returns:
        The tries that had begun before this one.

    Raises:
        BridgeError: A statement failed; the message names it and says what Snowflake said.
    """
    mlflow = plan.settings.mlflow
    told = f", MLflow experiment {mlflow.experiment_name}" if mlflow else ""
    console.print(
        f"{plan.package}, pipeline {plan.pipeline}: {len(plan.steps)} nodes{told}", markup=False
    )
    with console.status("") as shown:

        def progress(number: int, statement: Statement) -> None:
            purpose = " ".join(statement.purpose.split()).replace("[", r"\[")
            shown.update(f"{number}/{len(written)} {purpose}")

        *most, go = written
        if stale := _stale(session, plan):
            apply(session, [suspend(plan), *map(drop_task, stale)])
        apply(session, most, progress)
        console.print(f"Deployed: {len(most)} statements, {size / 1000:.0f} kB of code.")
        before = history.tries()
        apply(session, [go])
    return before


def _stale(session: "Session", plan: Plan) -> list[Identifier]:
    """Give the tasks of nodes that were in this pipeline once: a script cannot know of them."""
    home = Identifier(plan.root.parts[:2])
    found = ask(session, f"SHOW TASKS IN SCHEMA {home.sql}")
    names = [str(row["name"]) for row in found]
    return [
        plan.root.beside(name)
        for name in names
        if name.startswith(f"{plan.root.object}__") and name not in plan.tasks
    ]
