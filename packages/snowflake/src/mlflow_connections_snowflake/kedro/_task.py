"""The run of a task task, as one of its tasks sees it from inside a procedure."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow_connections.secrets import get_logger
from mlflow_connections_snowflake import store
from mlflow_connections_snowflake._client import Client
from mlflow_connections_snowflake._errors import BridgeError
from mlflow_connections_snowflake._names import literal

from ._task_names import DEFAULT_PIPELINE, identifier_part

if TYPE_CHECKING:
    from snowflake.snowpark import Session


class TaskContext:
    """This run of the task: what it was told, and what its tasks tell one another.

    A run that is tried again keeps its id, its data on the stage, and the marks of what is done.

    Args:
        session: The procedure's session.

    Attributes:
        id: The same for all tries of a run, and another for each run.
        pipeline: The pipeline's name.
        env: The environment of the configuration.
        params: The parameters that were given to this run.
        mlflow: The tracking URI, the experiment and the source; empty without MLflow.
    """

    def __init__(self, session: "Session") -> None:
        self.session = session
        config: dict[str, Any] = json.loads(self._ask("SYSTEM$GET_TASK_GRAPH_CONFIG()") or "{}")
        self.id = self._ask("SYSTEM$TASK_RUNTIME_INFO('CURRENT_TASK_GRAPH_RUN_GROUP_ID')")
        self.pipeline: str = config["pipeline"]
        self.env: str = config["env"]
        self.params: dict[str, Any] = config["params"]
        self.mlflow: dict[str, str] = config.get("mlflow", {})
        self._folder = f"@{config['stage']}/runs/{self.id}"

    @property
    def data(self) -> str:
        """Where what goes between nodes lies on the stage."""
        return f"{self._folder}/data"

    def value_of(self, task: str) -> str:
        """Give what a task before this one has handed on.

        Raises:
            BridgeError: It has handed nothing on.
        """
        value = self._ask(f"SYSTEM$GET_PREDECESSOR_RETURN_VALUE({literal(task)})")
        if not value:
            raise BridgeError(
                f"The task {task} has handed no run id on: deploy the pipeline again by "
                "`kedro snowflake-mlflow run`."
            )
        return value

    def hand_on(self, value: str) -> None:
        """Give a value to the tasks after this one."""
        self.session.sql(f"CALL SYSTEM$SET_RETURN_VALUE({literal(value)})").collect()

    def mark_done(self, node: str) -> None:
        """Note on the stage that a node has succeeded: what killed it could not tell."""
        place = f"{self._folder}/done/{identifier_part(node)}"
        self.session.file.put_stream(
            io.BytesIO(b"done"), place, auto_compress=False, overwrite=True
        )

    def count_done(self) -> int:
        """Tell how many nodes have succeeded, in whichever try."""
        return len(self.session.file.list(f"{self._folder}/done/"))

    def clear(self) -> None:
        """Take away all that this run has on the stage."""
        self.session.file.remove(f"{self._folder}/")

    def _ask(self, function: str) -> str:
        return str(self.session.sql(f"SELECT {function}").collect()[0][0] or "")


_logger = get_logger(__name__)


def start_mlflow_run(task: TaskContext) -> str:
    """Make the run, or find the one that an earlier try of this task made, and give its id."""
    client = _client(task)
    source, pipeline = task.mlflow["source"], task.pipeline
    tags = {
        "mlflow.source.name": source,
        "mlflow.source.type": "PROJECT",
        "kedro.pipeline": pipeline,
        "kedro.env": task.env,
    }
    run = client.create_run(
        client.ensure_experiment(task.mlflow["experiment"]),
        source if pipeline == DEFAULT_PIPELINE else pipeline,
        tags=tags,
        request_id=task.id,
    )
    run_id = str(run["info"]["run_id"])
    if run["info"]["status"] != "RUNNING":
        client.update_run(run_id, "RUNNING")
    return run_id


@contextmanager
def active_run(task: TaskContext, run_id: str) -> Iterator[None]:
    """Have the run active, so that plain MLflow code logs to it; it goes on in the next task."""
    import mlflow

    # Entry points tell MLflow of the scheme where it was imported after the zip came in. Be sure.
    store.register()
    mlflow.set_tracking_uri(task.mlflow["tracking_uri"])
    # A nested run of the node's goes where its parent is.
    mlflow.set_experiment(task.mlflow["experiment"])
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


def end_mlflow_run(task: TaskContext, *, finished: bool) -> str:
    """End the run, if there is one, and give its id."""
    client = _client(task)
    experiment = client.experiment(task.mlflow["experiment"])
    run = client.run_of(str(experiment["experiment_id"]), task.id) if experiment else None
    if run is None:
        return ""
    run_id = str(run["info"]["run_id"])
    client.update_run(run_id, "FINISHED" if finished else "FAILED")
    return run_id


def _client(task: TaskContext) -> Client:
    bridge, _ = store.Bridge.from_uri(task.mlflow["tracking_uri"])
    return Client(task.session, bridge.functions)
