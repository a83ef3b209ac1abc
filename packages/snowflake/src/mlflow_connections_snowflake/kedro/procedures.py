"""The handlers of a pipeline's procedures. A task calls each with the procedure's session."""

from contextlib import nullcontext
from typing import TYPE_CHECKING

from ._task import TaskContext, active_run, end_mlflow_run, start_mlflow_run

if TYPE_CHECKING:
    from snowflake.snowpark import Session


def start_run(session: "Session") -> str:
    """Create the MLflow run and pass its ID on. A second delivery creates no second run."""
    task = TaskContext(session)
    run_id = start_mlflow_run(task)
    task.hand_on(run_id)
    return run_id


def run_node(session: "Session", node: str, predecessor: str) -> str:
    """Run a node while the MLflow run is active, and pass the run's ID on."""
    from ._node import run

    task = TaskContext(session)
    run_id = task.value_of(predecessor) if task.mlflow else ""
    with active_run(task, run_id) if task.mlflow else nullcontext():
        run(task, node)
    task.mark_done(node)
    if run_id:
        task.hand_on(run_id)
    return node


def end_run(session: "Session", nodes: int) -> str:
    """End the MLflow run: as finished if `nodes` nodes have succeeded, as failed otherwise."""
    task = TaskContext(session)
    finished = task.count_done() == nodes
    run_id = end_mlflow_run(task, finished=finished) if task.mlflow else ""
    if finished:
        # A failed run keeps its data: a retry needs it.
        task.clear()
    return run_id
