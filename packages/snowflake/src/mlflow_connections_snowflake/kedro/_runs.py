"""The one MLflow run of a pipeline: made once however often Snowflake tries, and always ended."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow_connections_snowflake import store
from mlflow_connections_snowflake._client import Client

from ._graph import Graph
from ._names import DEFAULT_PIPELINE

_logger = logging.getLogger(__name__)


def start(graph: Graph) -> str:
    """Make the run, or find the one that an earlier try of this task made, and give its id."""
    client = _client(graph)
    source, pipeline = graph.mlflow["source"], graph.pipeline
    tags = {
        "mlflow.source.name": source,
        "mlflow.source.type": "PROJECT",
        "kedro.pipeline": pipeline,
        "kedro.env": graph.env,
    }
    run = client.create_run(
        client.ensure_experiment(graph.mlflow["experiment"]),
        source if pipeline == DEFAULT_PIPELINE else pipeline,
        tags=tags,
        request_id=graph.id,
    )
    run_id = str(run["info"]["run_id"])
    if run["info"]["status"] != "RUNNING":
        client.update_run(run_id, "RUNNING")
    return run_id


@contextmanager
def active(graph: Graph, run_id: str) -> Iterator[None]:
    """Have the run active, so that plain MLflow code logs to it; it goes on in the next task."""
    import mlflow

    # Entry points tell MLflow of the scheme where it was imported after the zip came in. Be sure.
    store.register()
    mlflow.set_tracking_uri(graph.mlflow["tracking_uri"])
    # A nested run of the node's goes where its parent is.
    mlflow.set_experiment(graph.mlflow["experiment"])
    mlflow.start_run(run_id=run_id)
    try:
        yield
    except BaseException:
        try:
            mlflow.end_run("FAILED")
        except Exception:
            # The node's own error is the one that its author has to see.
            _logger.exception("The MLflow run %s could not be ended as failed.", run_id)
        raise
    mlflow.end_run("RUNNING")


def end(graph: Graph, *, finished: bool) -> str:
    """End the run, if there is one, and give its id."""
    client = _client(graph)
    experiment = client.experiment(graph.mlflow["experiment"])
    run = client.run_of(str(experiment["experiment_id"]), graph.id) if experiment else None
    if run is None:
        return ""
    run_id = str(run["info"]["run_id"])
    client.update_run(run_id, "FINISHED" if finished else "FAILED")
    return run_id


def _client(graph: Graph) -> Client:
    bridge, _ = store.Bridge.from_uri(graph.mlflow["tracking_uri"])
    return Client(graph.session, bridge.functions)
