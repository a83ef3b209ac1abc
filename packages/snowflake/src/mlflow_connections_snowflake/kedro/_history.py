"""What Snowflake says of a pipeline's tasks, by its table function TASK_HISTORY.

Of its answer these columns are read: NAME, STATE, QUERY_START_TIME, COMPLETED_TIME, ERROR_MESSAGE,
RETURN_VALUE, GRAPH_RUN_GROUP_ID, ATTEMPT_NUMBER.
"""

import time
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from mlflow_connections_snowflake._errors import BridgeError
from mlflow_connections_snowflake._names import Name, literal, literals

from ._plan import Plan

if TYPE_CHECKING:
    from snowflake.snowpark import Row, Session

SUCCEEDED = "SUCCEEDED"
ENDED = frozenset({SUCCEEDED, "FAILED", "FAILED_AND_AUTO_SUSPENDED", "CANCELLED", "SKIPPED"})
_LOOK_BACK = 3600

Try = tuple[str, int]
"""A graph run's id, and which try of it."""


class TaskRun(NamedTuple):
    """One run of one task.

    Attributes:
        task: The task.
        state: SCHEDULED, EXECUTING, or one of ENDED.
        started: When it started; None before.
        completed: When it ended; None before.
        error: Why it failed; empty if it did not.
        value: What it handed on.
        id: Which try of which run of the graph it belongs to.
    """

    task: str
    state: str
    started: datetime | None
    completed: datetime | None
    error: str
    value: str
    id: Try

    @property
    def seconds(self) -> float | None:
        """How long it took; None before its end."""
        if self.state not in ENDED or self.started is None or self.completed is None:
            return None
        return (self.completed - self.started).total_seconds()


class History:
    """Asks for the runs of a pipeline's tasks.

    Args:
        session: A session of who owns the tasks.
        plan: The pipeline.
    """

    def __init__(self, session: "Session", plan: Plan) -> None:
        self._session = session
        self._plan = plan
        self._began = time.monotonic()

    def runs(self) -> list[TaskRun]:
        """Give every run of a task of the last hour, and of all the time since."""
        seconds = _LOOK_BACK + int(time.monotonic() - self._began)
        database, schema = self._plan.root.parts[:2]
        function = f"{Name((database,)).sql}.INFORMATION_SCHEMA.TASK_HISTORY"
        rows = ask(
            self._session,
            "SELECT NAME, STATE, QUERY_START_TIME, COMPLETED_TIME, ERROR_MESSAGE, RETURN_VALUE,"  # noqa: S608 - names are quoted
            " GRAPH_RUN_GROUP_ID, ATTEMPT_NUMBER"
            f" FROM TABLE({function}(SCHEDULED_TIME_RANGE_START =>"
            f" DATEADD('second', -{seconds}, CURRENT_TIMESTAMP()), RESULT_LIMIT => 10000))"
            f" WHERE DATABASE_NAME = {literal(database)} AND SCHEMA_NAME = {literal(schema)}"
            f" AND NAME IN {literals(tuple(self._plan.tasks))}"
            # A run that is only scheduled belongs to no graph yet.
            " AND GRAPH_RUN_GROUP_ID IS NOT NULL"
            " ORDER BY SCHEDULED_TIME",
        )
        return [
            TaskRun(
                row[0],
                row[1],
                row[2],
                row[3],
                row[4] or "",
                row[5] or "",
                (str(row[6]), int(row[7])),
            )
            for row in rows
        ]

    def tries(self) -> set[Try]:
        """Give every try that has begun."""
        return {run.id for run in self.runs()}


def ask(session: "Session", sql: str) -> "list[Row]":
    """Ask Snowflake about tasks.

    Raises:
        BridgeError: It does not say.
    """
    from snowflake.snowpark.exceptions import SnowparkClientException

    try:
        return session.sql(sql).collect()
    except SnowparkClientException as error:
        said = " ".join(str(getattr(error, "message", None) or error).split())
        raise BridgeError(
            f"Snowflake does not tell of the pipeline's tasks: {said.rstrip('.')}. Mend what it "
            "names, most often the connection, the schema or the role; what runs goes on."
        ) from error
