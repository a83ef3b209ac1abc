"""One run of a task: its row of TASK_HISTORY, and the functions that only the task may call."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from mlflow_connections_sandbox._snowflake._errors import Name, SqlError, dotted

TASK_FUNCTIONS = frozenset(
    (
        *("SYSTEM$GET_PREDECESSOR_RETURN_VALUE", "SYSTEM$CURRENT_USER_TASK_NAME"),
        *("SYSTEM$TASK_RUNTIME_INFO", "SYSTEM$GET_TASK_GRAPH_CONFIG"),
    )
)
HISTORY_COLUMNS = (
    *("QUERY_ID", "NAME", "DATABASE_NAME", "SCHEMA_NAME", "QUERY_TEXT", "STATE", "ERROR_CODE"),
    *("ERROR_MESSAGE", "SCHEDULED_TIME", "QUERY_START_TIME", "COMPLETED_TIME", "RETURN_VALUE"),
    *("GRAPH_RUN_GROUP_ID", "ATTEMPT_NUMBER"),
)


@dataclass
class TaskExecution:
    """One run of one task.

    Attributes:
        name: The task.
        root: The root task of its graph.
        group: The ID of the graph run, the same for all attempts.
        attempt: The number of the attempt, from 1.
        sql: The statement that it executes.
        config: The CONFIG of the root.
        predecessors: The runs of its predecessors.
        state: SCHEDULED, EXECUTING, SUCCEEDED, FAILED, SKIPPED or CANCELLED.
        query: The ID of the statement.
        error: The number and text of its error.
        value: The return value that it set.
        is_suspended: Whether it represents a suspended task, which counts as succeeded.
    """

    name: Name
    root: Name
    group: str
    attempt: int
    sql: str
    config: str | None
    predecessors: "Sequence[TaskExecution]"
    state: str = "SCHEDULED"
    query: str | None = None
    error: tuple[int, str] | None = None
    value: str | None = None
    is_suspended: bool = False
    scheduled: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    started: datetime | None = None
    completed: datetime | None = None

    def row(self) -> list[str | None]:
        """Return the row of TASK_HISTORY."""
        return [
            *(self.query, self.name[2], self.name[0], self.name[1], self.sql, self.state),
            *((str(self.error[0]), self.error[1]) if self.error else (None, None)),
            *(_text(self.scheduled), _text(self.started), _text(self.completed)),
            *(self.value, self.group, str(self.attempt)),
        ]

    def answer(self, function: str, arguments: Sequence[str]) -> str | None:
        """Return the value of one of TASK_FUNCTIONS inside this task.

        Raises:
            SqlError: The argument is unknown.
        """
        if function == "SYSTEM$GET_PREDECESSOR_RETURN_VALUE":
            return self._predecessor(arguments[0] if arguments else None)
        if function == "SYSTEM$CURRENT_USER_TASK_NAME":
            return dotted(self.name)
        if function == "SYSTEM$TASK_RUNTIME_INFO":
            known: Mapping[str, str | None] = {
                "CURRENT_TASK_NAME": dotted(self.name),
                "CURRENT_ROOT_TASK_NAME": dotted(self.root),
                "CURRENT_TASK_GRAPH_RUN_GROUP_ID": self.group,
                "CURRENT_TASK_GRAPH_ORIGINAL_SCHEDULED_TIMESTAMP": _text(self.scheduled),
            }
            if not arguments or arguments[0].upper() not in known:
                raise SqlError(1008, "22023", f"Unknown task information {list(arguments)}.")
            return known[arguments[0].upper()]
        if not arguments:
            return self.config
        value = json.loads(self.config or "{}").get(arguments[0])
        return value if isinstance(value, str) or value is None else json.dumps(value)

    def _predecessor(self, name: str | None) -> str | None:
        found = [
            run
            for run in self.predecessors
            if name is None or name in {run.name[2], dotted(run.name)}
        ]
        if len(found) != 1:
            raise SqlError(91100, "22000", f"This task has not one predecessor '{name or ''}'.")
        return found[0].value


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.strftime("%Y-%m-%d %H:%M:%S.%f")
