"""A task's view of its graph run, and the pipeline's one MLflow run.

The MLflow run is created once, however often Snowflake retries, and always ended. It is reached
through the external functions, or with external access through MLflow's own client.
"""

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow_connections.secrets import get_logger
from mlflow_connections_snowflake import store
from mlflow_connections_snowflake._client import REQUEST_TAG, Client
from mlflow_connections_snowflake._config import DEFAULT_SECRET
from mlflow_connections_snowflake._connection import mlflow_credentials
from mlflow_connections_snowflake._errors import BridgeError
from mlflow_connections_snowflake._names import Identifier, literal, name

from ._task_names import DEFAULT_PIPELINE, identifier_part

if TYPE_CHECKING:
    from snowflake.snowpark import Session

_logger = get_logger(__name__)


class TaskContext:
    """This run of the graph: its configuration, and the values that its tasks pass on.

    A retried run keeps its ID, its data on the stage, and the marker files of finished nodes.

    Args:
        session: The procedure's session.

    Attributes:
        id: The same for all attempts of a run, different for each run.
        pipeline: The pipeline's name.
        env: The environment of the configuration.
        params: The parameters of this run.
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
        self._tables = name(config["tables"], "the graph's CONFIG")
        self._folder = f"@{config['stage']}/runs/{self.id}"

    @property
    def data(self) -> str:
        """The place on the stage of the data between nodes."""
        return f"{self._folder}/data"

    def table(self, dataset: str) -> Identifier:
        """Return the name of the transient table that holds a dataset in this run."""
        run = identifier_part(self.id)
        return self._tables.sibling(f"{self._tables.object}__{run}__{identifier_part(dataset)}")

    def value_of(self, task: str) -> str:
        """Fetch the value that an earlier task passed on.

        Raises:
            BridgeError: The task passed none on.
        """
        value = self._ask(f"SYSTEM$GET_PREDECESSOR_RETURN_VALUE({literal(task)})")
        if not value:
            raise BridgeError(
                f"The task {task} has passed no run ID on. Deploy the pipeline again with "
                "`kedro snowflake-mlflow run`."
            )
        return value

    def hand_on(self, value: str) -> None:
        """Pass a value on to later tasks."""
        self.session.sql(f"CALL SYSTEM$SET_RETURN_VALUE({literal(value)})").collect()

    def mark_done(self, node: str) -> None:
        """Mark on the stage that a node has succeeded: a killed process could not report it."""
        self._write(f"done/{identifier_part(node)}", b"done")

    def note_table(self, table: Identifier) -> None:
        """Record on the stage that a table belongs to this run."""
        self._write(f"tables/{identifier_part(table.object)}", table.object.encode())

    def count_done(self) -> int:
        """Return how many nodes have succeeded, over all attempts."""
        return len(self.session.file.list(f"{self._folder}/done/"))

    def clear(self) -> None:
        """Remove the tables and files of this run from Snowflake."""
        for row in self.session.file.list(f"{self._folder}/tables/"):
            noted = str(row.name).rpartition("/tables/")[2]
            with self.session.file.get_stream(f"{self._folder}/tables/{noted}") as stream:
                table = self._tables.sibling(stream.read().decode())
            self.session.sql(f"DROP TABLE IF EXISTS {table.sql}").collect()
        self.session.file.remove(f"{self._folder}/")

    def _write(self, path: str, content: bytes) -> None:
        place = f"{self._folder}/{path}"
        self.session.file.put_stream(
            io.BytesIO(content), place, auto_compress=False, overwrite=True
        )

    def _ask(self, function: str) -> str:
        return str(self.session.sql(f"SELECT {function}").collect()[0][0] or "")


def start_mlflow_run(task: TaskContext) -> str:
    """Create the run, or find the one that an earlier attempt created, and return its ID."""
    source, pipeline = task.mlflow["source"], task.pipeline
    run_name = source if pipeline == DEFAULT_PIPELINE else pipeline
    tags = {
        "mlflow.source.name": source,
        "mlflow.source.type": "PROJECT",
        "kedro.pipeline": pipeline,
        "kedro.env": task.env,
    }
    if _is_direct(task):
        return _start_direct(task, run_name, tags)
    client = _client(task)
    run = client.create_run(
        client.ensure_experiment(task.mlflow["experiment"]),
        run_name,
        tags=tags,
        request_id=task.id,
    )
    run_id = str(run["info"]["run_id"])
    if run["info"].get("status", "RUNNING") != "RUNNING":
        client.update_run(run_id, "RUNNING")
    return run_id


@contextmanager
def active_run(task: TaskContext, run_id: str) -> Iterator[None]:
    """Activate the run, so that plain MLflow code logs to it. The next task continues it."""
    import mlflow

    if _is_direct(task):
        _authenticate()
    else:
        # The entry point may not have registered the scheme: MLflow may be imported before the zip.
        store.register()
    mlflow.set_tracking_uri(task.mlflow["tracking_uri"])
    # A node's nested runs go to the experiment of their parent.
    mlflow.set_experiment(task.mlflow["experiment"])
    mlflow.start_run(run_id=run_id)
    try:
        yield
    except BaseException:
        try:
            mlflow.end_run("FAILED")
        except Exception:
            # The user must see the node's own error.
            _logger.exception("The MLflow run %s could not be ended as failed.", run_id)
        raise
    mlflow.end_run("RUNNING")


def end_mlflow_run(task: TaskContext, *, finished: bool) -> str:
    """End the run and return its ID; empty if there is none."""
    status: Any = "FINISHED" if finished else "FAILED"
    if _is_direct(task):
        return _end_direct(task, status)
    client = _client(task)
    experiment = client.experiment(task.mlflow["experiment"])
    run = client.run_of(str(experiment["experiment_id"]), task.id) if experiment else None
    if run is None:
        return ""
    run_id = str(run["info"]["run_id"])
    client.update_run(run_id, status)
    return run_id


def _client(task: TaskContext) -> Client:
    bridge, _ = store.Bridge.from_uri(task.mlflow["tracking_uri"])
    return Client(task.session, bridge.functions)


def _is_direct(task: TaskContext) -> bool:
    """Return whether MLflow is reached by external access."""
    return not task.mlflow["tracking_uri"].startswith(f"{store.SCHEME}:")


def _authenticate() -> None:
    os.environ.update(mlflow_credentials(DEFAULT_SECRET, None))


def _direct_client(task: TaskContext) -> Any:
    from mlflow import MlflowClient

    _authenticate()
    return MlflowClient(task.mlflow["tracking_uri"])


def _start_direct(task: TaskContext, run_name: str, tags: dict[str, str]) -> str:
    client = _direct_client(task)
    experiment = client.get_experiment_by_name(task.mlflow["experiment"])
    if experiment is None:
        experiment_id = client.create_experiment(task.mlflow["experiment"])
    else:
        experiment_id = experiment.experiment_id
        if found := _find_direct(client, experiment_id, task.id):
            client.update_run(found, "RUNNING")
            return found
    tags = {**tags, REQUEST_TAG: task.id}
    return str(client.create_run(experiment_id, tags=tags, run_name=run_name).info.run_id)


def _end_direct(task: TaskContext, status: str) -> str:
    client = _direct_client(task)
    experiment = client.get_experiment_by_name(task.mlflow["experiment"])
    run_id = _find_direct(client, experiment.experiment_id, task.id) if experiment else ""
    if run_id:
        client.set_terminated(run_id, status)
    return run_id


def _find_direct(client: Any, experiment_id: str, request_id: str) -> str:
    found = client.search_runs([experiment_id], f"tags.`{REQUEST_TAG}` = '{request_id}'")
    return str(found[0].info.run_id) if found else ""
