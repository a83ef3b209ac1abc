"""Runs graphs of tasks: each task in a session of its own, as soon as those before it succeeded."""

import secrets
import threading
import uuid
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from mlflow_connections_sandbox._snowflake._errors import Name, compilation, dotted, insufficient
from mlflow_connections_sandbox._snowflake._results import Rows, status
from mlflow_connections_sandbox._snowflake._session import SqlSession
from mlflow_connections_sandbox._snowflake.objects._catalog import Catalog, Entry
from mlflow_connections_sandbox._snowflake.objects._privileges import ACCOUNT_KEY, Access
from mlflow_connections_sandbox._snowflake.sql._statements import Target

from ._task_run import TaskRun
from ._tasks import Shapes

if TYPE_CHECKING:
    from collections.abc import Callable


_AT_ONCE = 4


class TaskGraphs:
    """Executes EXECUTE TASK.

    Attributes:
        history: Every run of a task so far.
        tickets: What a task's own session logs in with, and what that session is.
        connect: Gives connection parameters for a ticket.
    """

    def __init__(self, catalog: Catalog, access: Access, tickets: dict[str, SqlSession]) -> None:
        self.history: list[TaskRun] = []
        self.tickets = tickets
        self.connect: Callable[[str, SqlSession], dict[str, Any]] | None = None
        self._catalog = catalog
        self._access = access
        self._locks: dict[Name, threading.Lock] = {}
        self._shapes = Shapes(catalog)
        self._known: dict[str, dict[Name, object]] = {}
        self._threads: list[threading.Thread] = []

    def execute(self, name: Name, session: SqlSession, *, retry: bool = False) -> Rows:
        """Start a graph, and answer at once.

        Args:
            name: The root task.
            session: Who asks.
            retry: Run what did not succeed in the last run again.

        Raises:
            SqlError: The task does not exist, is no root, or may not be executed.
        """
        root = self._access.see(session, self._catalog.key(Target("TASK", name), session))
        if not self._access.holds(session.role, "OPERATE", root.key):
            self._access.own(session, root.key)
        if not self._access.holds(root.owner, "EXECUTE TASK", ACCOUNT_KEY):
            raise insufficient("ACCOUNT", "SANDBOX")
        if root.properties.get("AFTER") or "FINALIZE" in root.properties:
            raise compilation(f"Task {dotted(root.name)} is no root task.", 91098)
        group = self._failed_group(root) if retry else str(uuid.uuid4())
        self._known[group] = self._shapes.of(root)
        thread = threading.Thread(
            target=self._run_graph, args=(root, group, session.user), daemon=True
        )
        self._threads.append(thread)
        thread.start()
        return status(f"Task {root.name[2]} is scheduled to run immediately.")

    def _failed_group(self, root: Entry) -> str:
        """Give the last run of a graph, which must have failed, while the graph stayed as it was."""
        runs = [run for run in self.history if run.root == root.name]
        group = runs[-1].group if runs else ""
        last = [run for run in runs if (run.group, run.attempt) == (group, runs[-1].attempt)]
        if not any(run.state == "FAILED" for run in last):
            raise compilation("Cannot perform retry: no suitable run of graph found.", 91097)
        if self._known[group] != self._shapes.of(root):
            raise compilation(
                "Cannot perform retry: the graph was modified since its last run.", 91096
            )
        return group

    def close(self) -> None:
        """Wait for what still runs."""
        for thread in self._threads:
            thread.join(timeout=60)

    def _run_graph(self, root: Entry, group: str, user: str) -> None:
        # A graph never overlaps with itself.
        with self._locks.setdefault(root.name, threading.Lock()):
            attempts = 1 + int(root.properties.get("TASK_AUTO_RETRY_ATTEMPTS", 0))
            before = [r for r in self.history if r.group == group]
            first = 1 + max((r.attempt for r in before), default=0)
            for attempt in range(first, first + attempts):
                succeeded = self._attempt(root, group, attempt, user)
                # After every try: what a finalizer does must be right for that, too.
                for finalizer in self._shapes.finalizer(root):
                    succeeded &= self._finalize(finalizer, root, group, attempt, user)
                if succeeded:
                    return

    def _finalize(self, entry: Entry, root: Entry, group: str, attempt: int, user: str) -> bool:
        run = TaskRun(
            *(entry.name, root.name, group, attempt, entry.properties["AS"]),
            root.properties.get("CONFIG"),
            [],
        )
        self.history.append(run)
        self._run_task(entry, run, user)
        return run.state == "SUCCEEDED"

    def _attempt(self, root: Entry, group: str, attempt: int, user: str) -> bool:
        """Run what has not succeeded yet, and tell whether everything has now."""
        runs = {r.name: r for r in self.history if r.group == group and r.state == "SUCCEEDED"}
        waiting = [e for e in self._shapes.tasks(root) if e.name not in runs]
        running: dict[Future[None], TaskRun] = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while waiting or running:
                for entry in list(waiting):
                    before = self._shapes.before(entry)
                    if any(name not in runs for name in before):
                        continue
                    waiting.remove(entry)
                    run = TaskRun(
                        *(entry.name, root.name, group, attempt, entry.properties["AS"]),
                        root.properties.get("CONFIG"),
                        [runs[name] for name in before],
                    )
                    self.history.append(run)
                    if any(p.state != "SUCCEEDED" for p in run.predecessors):
                        run.state = "SKIPPED"
                        runs[entry.name] = run
                    else:
                        running[pool.submit(self._run_task, entry, run, user)] = run
                if not running:
                    # What was skipped just now may let others be skipped.
                    if not any(all(n in runs for n in self._shapes.before(e)) for e in waiting):
                        break
                    continue
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    finished = running.pop(future)
                    runs[finished.name] = finished
        return all(r.state == "SUCCEEDED" for r in runs.values())

    def _run_task(self, entry: Entry, run: TaskRun, user: str) -> None:
        import snowflake.connector

        assert self.connect is not None  # noqa: S101 - set before anything runs
        run.state, run.started = "EXECUTING", datetime.now(timezone.utc)
        warehouse = entry.properties.get("WAREHOUSE")
        own = SqlSession(
            token="",
            user=user,
            role=entry.owner,
            database=entry.name[0],
            schema=entry.name[1],
            warehouse=warehouse and warehouse[0],
            task=run,
        )
        ticket = secrets.token_urlsafe(16)
        self.tickets[ticket] = own
        try:
            with (
                snowflake.connector.connect(**self.connect(ticket, own)) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(run.sql)
                run.query = cursor.sfqid
            run.state = "SUCCEEDED"
        except snowflake.connector.errors.Error as error:
            run.error = (error.errno or 0, str(error.raw_msg))
            run.query = error.sfqid
            run.state = "FAILED"
        finally:
            self.tickets.pop(ticket, None)
            run.completed = datetime.now(timezone.utc)
