"""The handlers of a pipeline's procedures. Each is called by a task, with the procedure's session."""

from contextlib import nullcontext
from typing import TYPE_CHECKING

from ._graph import Graph

if TYPE_CHECKING:
    from snowflake.snowpark import Session


def start_run(session: "Session") -> str:
    """Make the MLflow run and hand its id on; a second delivery makes no second run."""
    from . import _runs

    graph = Graph(session)
    run_id = _runs.start(graph)
    graph.hand_on(run_id)
    return run_id


def run_node(session: "Session", node: str, predecessor: str) -> str:
    """Run a node with the MLflow run active, and hand the run's id on."""
    from . import _node, _runs

    graph = Graph(session)
    run_id = graph.value_of(predecessor) if graph.mlflow else ""
    with _runs.active(graph, run_id) if graph.mlflow else nullcontext():
        _node.run(graph, node)
    graph.mark_done(node)
    if run_id:
        graph.hand_on(run_id)
    return node


def end_run(session: "Session", nodes: int) -> str:
    """End the MLflow run: finished if so many nodes have succeeded, and failed otherwise."""
    from . import _runs

    graph = Graph(session)
    finished = graph.count_done() == nodes
    run_id = _runs.end(graph, finished=finished) if graph.mlflow else ""
    if finished:
        # What failed may be tried again, and needs its data then.
        graph.clear()
    return run_id
