"""Brings a pipeline to Snowflake and starts it."""

from typing import TYPE_CHECKING

from mlflow_connections_snowflake._apply import apply
from mlflow_connections_snowflake._names import Name
from mlflow_connections_snowflake._statement import Statement

from ._history import History, ask
from ._plan import Plan
from ._sql import drop_task, suspend

if TYPE_CHECKING:
    from rich.console import Console
    from snowflake.snowpark import Session

    from ._history import Try


def deploy(
    session: "Session",
    plan: Plan,
    written: list[Statement],
    history: History,
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


def _stale(session: "Session", plan: Plan) -> list[Name]:
    """Give the tasks of nodes that were in this pipeline once: a script cannot know of them."""
    home = Name(plan.root.parts[:2])
    found = ask(session, f"SHOW TASKS IN SCHEMA {home.sql}")
    names = [str(row["name"]) for row in found]
    return [
        plan.root.beside(name)
        for name in names
        if name.startswith(f"{plan.root.object}__") and name not in plan.tasks
    ]
