"""The run of a task graph, as one of its tasks sees it from inside a procedure."""

import io
import json
from typing import TYPE_CHECKING, Any

from mlflow_connections_snowflake._errors import BridgeError
from mlflow_connections_snowflake._names import literal

from ._names import word

if TYPE_CHECKING:
    from snowflake.snowpark import Session


class Graph:
    """This run of the graph: what it was told, and what its tasks tell one another.

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
        place = f"{self._folder}/done/{word(node)}"
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
