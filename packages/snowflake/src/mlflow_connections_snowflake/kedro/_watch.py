"""Watch one run of a pipeline: fetch its task history, wait for its end, show its progress.

The table function TASK_HISTORY is read. These columns of its result are used: NAME, STATE,
QUERY_START_TIME, COMPLETED_TIME, ERROR_MESSAGE, RETURN_VALUE, GRAPH_RUN_GROUP_ID, ATTEMPT_NUMBER.
"""

import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from mlflow_connections.secrets import masked
from mlflow_connections_snowflake._errors import BridgeError, message_of
from mlflow_connections_snowflake._names import Identifier, literal, literals

from ._plan import Plan
from ._task_names import DEFAULT_PIPELINE

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from snowflake.snowpark import Row, Session


SUCCEEDED = "SUCCEEDED"
ENDED = frozenset({SUCCEEDED, "FAILED", "FAILED_AND_AUTO_SUSPENDED", "CANCELLED", "SKIPPED"})
_LOOK_BACK = 3600

Try = tuple[str, int]
"""The ID of a graph run, and the number of the attempt."""


class TaskRun(NamedTuple):
    """One run of one task.

    Attributes:
        task: The task.
        state: SCHEDULED, EXECUTING, or one of ENDED.
        started: The time at which it started; None before.
        completed: The time at which it ended; None before.
        error: The error with which it failed; empty if it did not.
        value: The value that it passed on.
        id: The graph run, and its attempt.
    """

    task: str
    state: str
    started: datetime | None
    completed: datetime | None
    error: str
    value: str
    id: Try

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, successfully or not."""
        return self.state in ENDED

    @property
    def seconds(self) -> float | None:
        """Its duration; None before its end."""
        if self.state not in ENDED or self.started is None or self.completed is None:
            return None
        return (self.completed - self.started).total_seconds()


class TaskHistory:
    """Fetches the runs of a pipeline's tasks.

    Args:
        session: A session of the tasks' owner.
        plan: The pipeline.
    """

    def __init__(self, session: "Session", plan: Plan) -> None:
        self._session = session
        self._plan = plan
        self._began = time.monotonic()

    def runs(self) -> list[TaskRun]:
        """Fetch every task run since one hour before this object was created."""
        seconds = _LOOK_BACK + int(time.monotonic() - self._began)
        database, schema = self._plan.root.parts[:2]
        function = f"{Identifier((database,)).sql}.INFORMATION_SCHEMA.TASK_HISTORY"
        rows = ask(
            self._session,
            "SELECT NAME, STATE, QUERY_START_TIME, COMPLETED_TIME, ERROR_MESSAGE, RETURN_VALUE,"  # noqa: S608 - names are quoted
            " GRAPH_RUN_GROUP_ID, ATTEMPT_NUMBER"
            f" FROM TABLE({function}(SCHEDULED_TIME_RANGE_START =>"
            f" DATEADD('second', -{seconds}, CURRENT_TIMESTAMP()), RESULT_LIMIT => 10000))"
            f" WHERE DATABASE_NAME = {literal(database)} AND SCHEMA_NAME = {literal(schema)}"
            f" AND NAME IN {literals(tuple(self._plan.tasks))}"
            # A run that is only scheduled belongs to no graph run yet.
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


def ask(session: "Session", sql: str) -> "list[Row]":
    """Fetch rows about tasks and procedures.

    Raises:
        BridgeError: Snowflake refused.
    """
    from snowflake.snowpark.exceptions import SnowparkClientException

    try:
        return session.sql(sql).collect()
    except SnowparkClientException as error:
        raise BridgeError(
            f"The pipeline's tasks cannot be listed: {message_of(error).rstrip('.')}. Fix the "
            "cause, most often the connection, the schema or the role. Running tasks go on."
        ) from masked(error)


_FIRST_WAIT, _LONGEST_WAIT = 0.5, 5.0
"""Seconds between two polls: short at first, longer for a long run."""


class Watch:
    """Follows one run of the graph.

    Args:
        history: The runs of the pipeline's tasks.
        plan: The pipeline.
        before: The attempts that belong to other runs.
        timeout: Stop after so many seconds; None waits for the end.

    Attributes:
        timed_out: Whether the timeout ended the watching.
    """

    def __init__(
        self, history: TaskHistory, plan: Plan, before: set[Try], timeout: float | None = None
    ) -> None:
        self._history = history
        self._plan = plan
        self._before = before
        self._attempt = self._last_attempt = 0
        self._timeout = timeout
        self.timed_out = False

    def states(self) -> Iterator[dict[str, TaskRun]]:
        """Yield the last run of each task by its name, again after each pause, until the end.

        An attempt that has ended since the last pause is yielded before the next one.
        """
        pause = _FIRST_WAIT
        began = time.monotonic()
        while True:
            *missed, runs = self._attempts()
            yield from missed
            yield runs
            if self._has_ended(runs):
                return
            if self._timeout is not None and time.monotonic() - began >= self._timeout:
                self.timed_out = True
                return
            time.sleep(pause if self._timeout is None else min(pause, self._timeout))
            pause = min(pause * 1.1, _LONGEST_WAIT)

    def _attempts(self) -> list[dict[str, TaskRun]]:
        """Return the last runs after each attempt that is over since the last call, and those of now."""
        runs = self._history.runs()
        ours = [run.id for run in runs if run.id not in self._before]
        if not ours:
            return [{}]
        group = ours[0][0]
        if not self._last_attempt:
            self._attempt = min(ours)[1]
            self._last_attempt = self._attempt + self._plan.settings.retries
        found: list[dict[str, TaskRun]] = [{}]
        for run in sorted((run for run in runs if run.id[0] == group), key=lambda run: run.id):
            while self._attempt < run.id[1]:
                self._attempt += 1
                found.append(dict(found[-1]))
            found[-1][run.task] = run
        return found

    def _has_ended(self, runs: dict[str, TaskRun]) -> bool:
        end, root = (runs.get(name.object) for name in (self._plan.end, self._plan.root))
        if root is not None and root.state in ENDED and root.state != SUCCEEDED:
            return True
        attempt = max((run.id[1] for run in runs.values()), default=0)
        if end is None or end.state not in ENDED or end.id[1] < attempt:
            return False
        return has_succeeded(self._plan, runs) or attempt >= self._last_attempt


def has_succeeded(plan: Plan, runs: dict[str, TaskRun]) -> bool:
    """Return whether every task succeeded. A missing task succeeded in an earlier attempt."""
    return plan.end.object in runs and all(run.state == SUCCEEDED for run in runs.values())


_WORDS = {
    "SCHEDULED": ("waiting", "dim"),
    "EXECUTING": ("running", "cyan"),
    SUCCEEDED: ("done", "green"),
    "SKIPPED": ("skipped", "dim"),
    "CANCELLED": ("cancelled", "red"),
}
_DEFAULT_ENV = "local"
"""Kedro's own default. A project with another default gets a redundant option, which is harmless."""
_SHORTEST = 0.05
"""Shorter durations, in seconds, are not shown."""
_LINES = 30
"""The number of lines shown of a node's traceback: its end, which has the error."""


class Progress:
    """Shows the states of a pipeline's tasks.

    Args:
        plan: The pipeline.
        console: The console; by default on standard error, so that standard output stays free.
    """

    def __init__(self, plan: Plan, console: "Console | None" = None) -> None:
        from rich.console import Console

        self._plan = plan
        self.console = console or Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._since: dict[tuple[str, int], float] = {}
        self._shown: dict[str, tuple[str, int]] = {}

    def follow(self, states: Iterable[dict[str, TaskRun]]) -> dict[str, TaskRun]:
        """Show each state as it arrives, and return the last one."""
        from rich.live import Live

        last: dict[str, TaskRun] = {}
        if not self.console.is_terminal:
            for last in states:
                self._print_changes(last)
            return last
        # Rendered at each refresh, so that the seconds continue while nothing changes.
        with Live(console=self.console, get_renderable=lambda: self._table(last)):
            for last in states:
                self._note(last)
        return last

    def _print_changes(self, runs: dict[str, TaskRun]) -> None:
        self._note(runs)
        for task in self._plan.tasks:
            run = runs.get(task)
            if run is None or self._shown.get(task) == (run.state, run.id[1]):
                continue
            self._shown[task] = (run.state, run.id[1])
            if run.state != "SCHEDULED":
                self.console.print(self._line(task, run))

    def _table(self, runs: dict[str, TaskRun]) -> "Text":
        from rich.text import Text

        return Text("\n").join(self._line(task, runs.get(task)) for task in self._plan.tasks)

    def _note(self, runs: dict[str, TaskRun]) -> None:
        for task, run in runs.items():
            if run.state == "EXECUTING":
                self._since.setdefault((task, run.id[1]), time.monotonic())

    def _line(self, task: str, run: TaskRun | None) -> "Text":
        from rich.text import Text

        names = self._plan.tasks
        word, style = (
            ("waiting", "dim") if run is None else _WORDS.get(run.state, ("FAILED", "red"))
        )
        seconds = None if run is None else run.seconds
        if run is not None and run.state == "EXECUTING":
            seconds = time.monotonic() - self._since[task, run.id[1]]
        took = f"{seconds:7.1f} s" if seconds and seconds > _SHORTEST else ""
        width = max(map(len, names.values()))
        again = f"  (try {run.id[1]})" if run is not None and run.id[1] > 1 else ""
        # A node's name is never markup.
        return Text.assemble(
            (f"  {word:<9}", style), (f"{names[task]:<{width}}"), (f"{took}{again}", "dim")
        )


def failure(plan: Plan, runs: dict[str, TaskRun]) -> str:
    """Return the failed tasks, each with the last lines of its error."""
    names = plan.tasks
    found = [runs[task] for task in names if task in runs]
    failed = [run for run in found if run.error]
    if not failed:
        left = [f"{names[r.task]!r} ({r.state.lower()})" for r in found if r.state != SUCCEEDED]
        return f"Not every task succeeded: {', '.join(left)}."
    return "\n\n".join(
        f"{names[run.task]!r} failed, the task {plan.root.sibling(run.task)}:\n\n"
        f"{_end_of(run.error, plan.package)}"
        for run in failed
    )


def _end_of(error: str, package: str) -> str:
    """Return a traceback from the project's own code on, without Kedro's frames."""
    lines = [line for line in error.rstrip().splitlines() if line.strip()]
    if lines and lines[-1].lstrip().startswith("in function "):
        lines.pop()  # the handler, the same for every node
    own = [i for i, line in enumerate(lines) if 'File "' in line and f"/{package}/" in line]
    return "\n".join(f"  {line}" for line in lines[own[0] if own else 0 :][-_LINES:])


def command(plan: Plan, name: str) -> str:
    """Return a command for the same pipeline and configuration."""
    words = ["kedro", "snowflake-mlflow", *name.split()]
    words += [] if plan.pipeline == DEFAULT_PIPELINE else ["--pipeline", plan.pipeline]
    words += [] if plan.env == _DEFAULT_ENV else ["--env", plan.env]
    return shlex.join(words)


def retry_hint(plan: Plan) -> str:
    """Return how to rerun the failed tasks."""
    return (
        f"Rerun from there: {command(plan, 'run --retry')}\n"
        f"In SQL: EXECUTE TASK {plan.root.sql} RETRY LAST;"
    )
