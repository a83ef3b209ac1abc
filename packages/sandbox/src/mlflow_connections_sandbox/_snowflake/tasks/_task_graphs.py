"""Run graphs of tasks: each task in its own session, as soon as its predecessors have succeeded."""

import secrets
import threading
import time
import uuid
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from mlflow_connections_sandbox._snowflake._assumptions import Assumptions
from mlflow_connections_sandbox._snowflake._errors import Name, compilation, dotted, insufficient
from mlflow_connections_sandbox._snowflake._results import Rows, status
from mlflow_connections_sandbox._snowflake._session import SqlSession
from mlflow_connections_sandbox._snowflake.objects._catalog import Catalog, CatalogEntry
from mlflow_connections_sandbox._snowflake.objects._privileges import ACCOUNT_KEY, Privileges
from mlflow_connections_sandbox._snowflake.procedures._procedures import Procedures
from mlflow_connections_sandbox._snowflake.sql._statements import Target

from ._task_run import TaskExecution
from ._tasks import GraphVersion, TaskRules, is_started

if TYPE_CHECKING:
    from collections.abc import Callable

_AT_ONCE = 4
_TIMEOUT_MS = 3_600_000
"""The USER_TASK_TIMEOUT_MS of a task without the clause."""
_MAX_FAILURES = 10
"""The SUSPEND_TASK_AFTER_NUM_FAILURES of a root without the clause."""


class TaskGraphs:
    """Executes EXECUTE TASK.

    Attributes:
        history: Every run of a task so far.
        connect: Returns connection parameters for a ticket.
    """

    def __init__(
        self,
        catalog: Catalog,
        access: Privileges,
        rules: TaskRules,
        procedures: Procedures,
        assumptions: Assumptions,
    ) -> None:
        self.history: list[TaskExecution] = []
        self.connect: Callable[[str, SqlSession], dict[str, Any]] | None = None
        self._catalog = catalog
        self._access = access
        self._rules = rules
        self._procedures = procedures
        self._assumptions = assumptions
        self._locks: dict[Name, threading.Lock] = {}
        self._versions: dict[str, GraphVersion] = {}
        self._failures: dict[Name, int] = {}
        self._threads: list[threading.Thread] = []

    def execute(self, name: Name, session: SqlSession, *, retry: bool = False) -> Rows:
        """Start a graph, and return immediately.

        Args:
            name: The root task.
            session: The session that executes the statement.
            retry: Rerun the tasks that did not succeed in the last run.

        Raises:
            SqlError: The task does not exist, is not a root, or may not be executed.
        """
        root = self._access.see(session, self._catalog.key(Target("TASK", name), session))
        if not self._access.holds(session.role, "OPERATE", root.key):
            self._access.own(session, root.key)
        if not self._access.holds(root.owner, "EXECUTE TASK", ACCOUNT_KEY):
            raise insufficient("ACCOUNT", "SANDBOX")
        if root.properties.get("AFTER") or "FINALIZE" in root.properties:
            raise compilation(f"Task {dotted(root.name)} is no root task.", 91098)
        version = self._rules.version(root)
        self._check_managed(version)
        group = self._failed_group(root, version) if retry else str(uuid.uuid4())
        self._versions[group] = version
        run = _GraphRun(version, version.tasks[root.name], group, session.user)
        thread = threading.Thread(target=self._run_graph, args=(run,), daemon=True)
        self._threads.append(thread)
        thread.start()
        return status(f"Task {root.name[2]} is scheduled to run immediately.")

    def close(self) -> None:
        """Wait for running tasks."""
        for thread in self._threads:
            thread.join(timeout=60)

    def _check_managed(self, version: GraphVersion) -> None:
        """Check that the owner of a task without a warehouse may use Snowflake's."""
        for task in version.tasks.values():
            if "WAREHOUSE" not in task.properties and not self._access.holds(
                task.owner, "EXECUTE MANAGED TASK", ACCOUNT_KEY
            ):
                raise insufficient("ACCOUNT", "SANDBOX")

    def _failed_group(self, root: CatalogEntry, version: GraphVersion) -> str:
        """Return the last run of a graph, which must have failed, if the graph is unchanged since."""
        runs = [run for run in self.history if run.root == root.name]
        group = runs[-1].group if runs else ""
        last = [run for run in runs if (run.group, run.attempt) == (group, runs[-1].attempt)]
        if not any(run.state == "FAILED" for run in last):
            raise compilation("Cannot perform retry: no suitable run of graph found.", 91097)
        if self._versions[group].content() != version.content():
            raise compilation(
                "Cannot perform retry: the graph was modified since its last run.", 91096
            )
        return group

    def _run_graph(self, graph: "_GraphRun") -> None:
        # A graph never overlaps with itself.
        with self._locks.setdefault(graph.root.name, threading.Lock()):
            graph.start()
            attempts = 1 + int(graph.root.properties.get("TASK_AUTO_RETRY_ATTEMPTS", 0))
            before = [r for r in self.history if r.group == graph.group]
            first = 1 + max((r.attempt for r in before), default=0)
            succeeded = False
            for attempt in range(first, first + attempts):
                succeeded = self._attempt(graph, attempt)
                is_last = succeeded or attempt == first + attempts - 1
                if is_last or self._assumptions.finalizer_after_each_attempt:
                    succeeded &= self._finalize(graph, attempt)
                if succeeded:
                    break
            self._count_failures(graph.root, succeeded=succeeded)

    def _count_failures(self, root: CatalogEntry, *, succeeded: bool) -> None:
        """Suspend a root that has failed too often in a row."""
        count = 0 if succeeded else self._failures.get(root.name, 0) + 1
        self._failures[root.name] = count
        limit = int(root.properties.get("SUSPEND_TASK_AFTER_NUM_FAILURES", _MAX_FAILURES))
        entry = self._catalog.find(root.key)
        if limit and count >= limit and entry is not None:
            entry.properties["STATE"] = "suspended"

    def _finalize(self, graph: "_GraphRun", attempt: int) -> bool:
        """Run the finalizer, and return whether it succeeded or does not exist."""
        if graph.version.finalizer is None:
            return True
        run = graph.task_run(graph.version.finalizer, attempt, [])
        self.history.append(run)
        self._run_task(graph.version.finalizer, run, graph, is_limited=False)
        return run.state == "SUCCEEDED"

    def _attempt(self, graph: "_GraphRun", attempt: int) -> bool:
        """Run the tasks that have not succeeded yet, and return whether all have now."""
        version = graph.version
        runs = {
            r.name: r for r in self.history if r.group == graph.group and r.state == "SUCCEEDED"
        }
        waiting = [e for e in version.tasks.values() if e.name not in runs]
        running: dict[Future[None], TaskExecution] = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while waiting or running:
                due = [e for e in waiting if all(n in runs for n in version.before(e))]
                for entry in due:
                    waiting.remove(entry)
                    run = graph.task_run(entry, attempt, [runs[n] for n in version.before(entry)])
                    if self._is_skipped(entry, run, graph):
                        runs[entry.name] = run
                    else:
                        self.history.append(run)
                        running[pool.submit(self._run_task, entry, run, graph)] = run
                if running:
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        finished = running.pop(future)
                        runs[finished.name] = finished
                elif not due:
                    break
        return all(r.state == "SUCCEEDED" for r in runs.values())

    def _is_skipped(self, entry: CatalogEntry, run: TaskExecution, graph: "_GraphRun") -> bool:
        """Return whether a task does not run, and set the state that its successors see."""
        if any(p.state != "SUCCEEDED" for p in run.predecessors):
            run.state = "SKIPPED"
        elif graph.remaining() <= 0:
            run.state = "CANCELLED"
        elif entry.name != graph.root.name and not is_started(entry):
            # A suspended task counts as succeeded, and has no run.
            run.state, run.is_suspended = "SUCCEEDED", True
            return True
        else:
            return False
        if entry.name == graph.root.name or is_started(entry):
            self.history.append(run)
        return True

    def _run_task(
        self,
        entry: CatalogEntry,
        run: TaskExecution,
        graph: "_GraphRun",
        *,
        is_limited: bool = True,
    ) -> None:
        import snowflake.connector

        assert self.connect is not None  # noqa: S101 - set before anything runs
        run.state, run.started = "EXECUTING", datetime.now(timezone.utc)
        warehouse = entry.properties.get("WAREHOUSE")
        own = SqlSession(
            token="",
            user=graph.user,
            role=entry.owner,
            database=entry.name[0],
            schema=entry.name[1],
            warehouse=warehouse and warehouse[0],
            is_managed=warehouse is None,
            task=run,
        )
        ticket = secrets.token_urlsafe(16)
        self._procedures.tickets[ticket] = own
        seconds = int(entry.properties.get("USER_TASK_TIMEOUT_MS", _TIMEOUT_MS)) / 1000
        limit = min(seconds, graph.remaining()) if is_limited else seconds
        timer = threading.Timer(limit, self._time_out, (run, limit))
        timer.start()
        try:
            with (
                snowflake.connector.connect(**self.connect(ticket, own)) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(run.sql)
                run.query = cursor.sfqid
            run.state = "SUCCEEDED" if run.error is None else "FAILED"
        except snowflake.connector.errors.Error as error:
            run.error = run.error or (error.errno or 0, str(error.raw_msg))
            run.query = error.sfqid
            run.state = "FAILED"
        finally:
            timer.cancel()
            self._procedures.tickets.pop(ticket, None)
            run.completed = datetime.now(timezone.utc)

    def _time_out(self, run: TaskExecution, seconds: float) -> None:
        limit = f"statement or warehouse timeout of {seconds:g} second(s)"
        run.error = 630, f"Statement reached its {limit} and was canceled."
        self._procedures.cancel(run)


class _GraphRun:
    """One run of a graph with its retries.

    Attributes:
        version: The graph at the time when the run was requested.
        root: Its root.
        group: The ID of the run, the same for its attempts.
        user: The user who requested it.
    """

    def __init__(self, version: GraphVersion, root: CatalogEntry, group: str, user: str) -> None:
        self.version = version
        self.root = root
        self.group = group
        self.user = user
        self._deadline = 0.0

    def start(self) -> None:
        """Start the clock of the root's USER_TASK_TIMEOUT_MS, which limits the whole graph."""
        limit = int(self.root.properties.get("USER_TASK_TIMEOUT_MS", _TIMEOUT_MS))
        self._deadline = time.monotonic() + limit / 1000

    def remaining(self) -> float:
        """Return the remaining seconds for the graph."""
        return self._deadline - time.monotonic()

    def task_run(
        self, entry: CatalogEntry, attempt: int, predecessors: list[TaskExecution]
    ) -> TaskExecution:
        """Return a new run of one task."""
        return TaskExecution(
            *(entry.name, self.root.name, self.group, attempt, entry.properties["AS"]),
            self.root.properties.get("CONFIG"),
            [p for p in predecessors if not p.is_suspended],
        )
