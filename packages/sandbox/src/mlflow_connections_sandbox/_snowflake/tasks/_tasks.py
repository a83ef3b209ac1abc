"""Tasks: their required clauses, the conditions for changing them, and their graph.

Sources: docs.snowflake.com, "Create a sequence of tasks with a task graph" and CREATE TASK; the
text of 91421 from public reports. The other numbers are assumed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlflow_connections_sandbox._snowflake._errors import (
    Name,
    SqlError,
    compilation,
    does_not_exist,
    dotted,
    insufficient,
    invalid_value,
)
from mlflow_connections_sandbox._snowflake._session import SqlSession
from mlflow_connections_sandbox._snowflake.objects._catalog import Catalog, CatalogEntry
from mlflow_connections_sandbox._snowflake.objects._privileges import ACCOUNT_KEY, Privileges
from mlflow_connections_sandbox._snowflake.sql._statements import Alter, Target

MAX_TASKS = 1000
"""The maximum number of tasks in a graph."""
MAX_NEIGHBORS = 100
"""The maximum number of predecessors of a task, and of its children."""
MAX_RETRIES = 30


@dataclass(frozen=True)
class GraphVersion:
    """A graph of tasks at the beginning of a run; later changes do not affect that run.

    Attributes:
        tasks: A copy of each task by its name, including the root and suspended ones.
        finalizer: A copy of the resumed finalizer, or None if there is none.
    """

    tasks: Mapping[Name, CatalogEntry]
    finalizer: CatalogEntry | None

    def before(self, task: CatalogEntry) -> list[Name]:
        """Return the predecessors of a task."""
        return [name for name in task.properties.get("AFTER", ()) if name in self.tasks]

    def content(self) -> dict[Name, object]:
        """Return the content that must be unchanged for a retry: each task as it was created and altered."""
        entries = [*self.tasks.values(), *([self.finalizer] if self.finalizer else ())]
        return {
            e.name: (e.created, {k: v for k, v in e.properties.items() if k != "STATE"})
            for e in entries
        }


class TaskRules:
    """Checks tasks, and reads their graphs from the catalog."""

    def __init__(self, catalog: Catalog, access: Privileges) -> None:
        self._catalog = catalog
        self._access = access

    def version(self, root: CatalogEntry) -> GraphVersion:
        """Return a copy of the graph that begins with a root."""
        found = {root.name: root}
        waiting = [root.name]
        while waiting:
            for child in self._children(waiting.pop()):
                if child.name not in found:
                    found[child.name] = child
                    waiting.append(child.name)
        finalizers = [
            _copy(e)
            for e in self._tasks()
            if e.properties.get("FINALIZE") == root.name and is_started(e)
        ]
        copies = {name: _copy(entry) for name, entry in found.items()}
        return GraphVersion(copies, finalizers[0] if finalizers else None)

    def check(self, entry: CatalogEntry, session: SqlSession) -> None:
        """Check the clauses of a new or changed task, and complete the names in it.

        Raises:
            SqlError: A clause is invalid, or names a task or warehouse that may not be used; or the
                root of the task's graph is started.
        """
        properties = entry.properties
        properties.setdefault("STATE", "suspended")
        there = self._catalog.find(entry.key)
        if there is not None and (self._is_inner(there) or any(self._children(there.name))):
            self.check_changeable(there)
        if "WAREHOUSE" in properties:
            self._check_warehouse(properties["WAREHOUSE"], session)
        _check_root_clauses(properties)
        if "FINALIZE" in properties:
            properties["FINALIZE"] = self._finalized(entry, session)
            return
        if "AFTER" not in properties:
            return
        if "SCHEDULE" in properties:
            raise compilation("A task has either a SCHEDULE or predecessors.", 91090)
        properties["AFTER"] = [
            self._predecessor(entry, name, session) for name in properties["AFTER"]
        ]
        self._check_size(entry)

    def alter(self, entry: CatalogEntry, statement: Alter, session: SqlSession) -> None:
        """Resume or suspend a task, or change its predecessors.

        Raises:
            SqlError: The session may not, or the root of the task's graph is started.
        """
        if statement.action == "RESUME":
            self._resume(entry, session)
            return
        if self._is_inner(entry) or statement.action != "SUSPEND":
            self.check_changeable(entry)
        if statement.action == "SUSPEND":
            entry.properties["STATE"] = "suspended"
        elif statement.action == "ADD AFTER":
            if "FINALIZE" in entry.properties:
                raise compilation("A finalizer task has no predecessors.", 91090)
            added = [self._predecessor(entry, n, session) for n in statement.properties["AFTER"]]
            entry.properties["AFTER"] = [*entry.properties.get("AFTER", ()), *added]
            self._check_size(entry)
        elif statement.action == "REMOVE AFTER":
            gone = {session.in_schema(name) for name in statement.properties["AFTER"]}
            self._remove_predecessors(entry, gone)

    def drop(self, entry: CatalogEntry) -> None:
        """Remove a task that is about to be dropped from its graph.

        Raises:
            SqlError: The root of the task's graph is started, and is another task.
        """
        if self._is_inner(entry):
            self.check_changeable(entry)
        for child in self._children(entry.name):
            self._remove_predecessors(child, {entry.name})
        for other in self._tasks():
            if other.properties.get("FINALIZE") == entry.name:
                del other.properties["FINALIZE"]

    def check_changeable(self, entry: CatalogEntry) -> None:
        """Check that the root of a task's graph is suspended.

        Raises:
            SqlError: 91421; it is not.
        """
        root = entry
        while self._is_inner(root):
            above = root.properties.get("FINALIZE") or root.properties["AFTER"][0]
            found = self._catalog.find(("TASK", above, None))
            if found is None:
                return
            root = found
        if is_started(root):
            raise SqlError(
                91421,
                "22000",
                f"Unable to update graph with root task {dotted(root.name)} since that root task is "
                "not suspended.",
            )

    def _resume(self, entry: CatalogEntry, session: SqlSession) -> None:
        properties = entry.properties
        if not self._access.holds(session.role, "EXECUTE TASK", ACCOUNT_KEY):
            raise insufficient("ACCOUNT", "SANDBOX")
        if not properties.keys() & {"SCHEDULE", "AFTER", "FINALIZE"}:
            raise invalid_value("", "SCHEDULE", "a task without one cannot be resumed")
        if self._is_inner(entry) and not is_started(entry):
            self.check_changeable(entry)
        properties["STATE"] = "started"

    def _tasks(self) -> list[CatalogEntry]:
        return [e for e in self._catalog if e.kind == "TASK"]

    def _children(self, name: Name) -> list[CatalogEntry]:
        return [e for e in self._tasks() if name in e.properties.get("AFTER", ())]

    @staticmethod
    def _is_inner(entry: CatalogEntry) -> bool:
        """Return whether a task depends on a root: it has predecessors, or finalizes one."""
        return bool(entry.properties.get("AFTER")) or "FINALIZE" in entry.properties

    def _remove_predecessors(self, entry: CatalogEntry, gone: set[Name]) -> None:
        kept = [name for name in entry.properties.get("AFTER", ()) if name not in gone]
        entry.properties["AFTER"] = kept

    def _check_warehouse(self, name: Name, session: SqlSession) -> None:
        key = ("WAREHOUSE", name, None)
        if not self._access.holds(session.role, "USAGE", key):
            raise does_not_exist("WAREHOUSE", name)

    def _check_size(self, entry: CatalogEntry) -> None:
        if len(entry.properties["AFTER"]) > MAX_NEIGHBORS:
            raise compilation(f"A task can have no more than {MAX_NEIGHBORS} predecessors.", 91092)
        for name in entry.properties["AFTER"]:
            others = [child for child in self._children(name) if child.name != entry.name]
            if len(others) >= MAX_NEIGHBORS:
                raise compilation(f"A task can have no more than {MAX_NEIGHBORS} children.", 91092)
        root = self._catalog.get(("TASK", entry.properties["AFTER"][0], None))
        while root.properties.get("AFTER"):
            root = self._catalog.get(("TASK", root.properties["AFTER"][0], None))
        if len(self.version(root).tasks.keys() | {entry.name}) > MAX_TASKS:
            raise compilation(f"A graph can have no more than {MAX_TASKS} tasks.", 91092)

    def _predecessor(self, entry: CatalogEntry, name: Name, session: SqlSession) -> Name:
        found = self._access.own(session, self._catalog.key(Target("TASK", name), session))
        if found.name[:2] != entry.name[:2]:
            raise compilation(f"Task '{dotted(found.name)}' is in another schema.", 91093)
        if "FINALIZE" in found.properties:
            raise compilation(f"The finalizer task {dotted(found.name)} has no child tasks.", 91094)
        self.check_changeable(found)
        return found.name

    def _finalized(self, entry: CatalogEntry, session: SqlSession) -> Name:
        """Return the root that a task finalizes."""
        if entry.properties.keys() & {"AFTER", "SCHEDULE"}:
            raise compilation("A finalizer task has neither a SCHEDULE nor predecessors.", 91090)
        key = self._catalog.key(Target("TASK", entry.properties["FINALIZE"]), session)
        root = self._access.own(session, key)
        if root.name[:2] != entry.name[:2]:
            raise compilation(f"Task '{dotted(root.name)}' is in another schema.", 91093)
        if self._is_inner(root):
            raise compilation(f"Task {dotted(root.name)} is no root task.", 91098)
        for other in self._tasks():
            if other.properties.get("FINALIZE") == root.name and other.name != entry.name:
                raise compilation(
                    f"Task {dotted(root.name)} has the finalizer task {dotted(other.name)} already.",
                    91095,
                )
            if entry.name in other.properties.get("AFTER", ()):
                raise compilation(
                    f"The finalizer task {dotted(entry.name)} has child tasks.", 91094
                )
        self.check_changeable(root)
        return root.name


def is_started(task: CatalogEntry) -> bool:
    """Return whether a task is resumed."""
    return bool(task.properties["STATE"] == "started")


def _copy(entry: CatalogEntry) -> CatalogEntry:
    return replace(entry, properties=dict(entry.properties))


def _check_root_clauses(properties: Mapping[str, object]) -> None:
    attempts = properties.get("TASK_AUTO_RETRY_ATTEMPTS")
    if attempts is None:
        return
    if properties.get("AFTER") or "FINALIZE" in properties:
        raise invalid_value(attempts, "TASK_AUTO_RETRY_ATTEMPTS", "only a root task can have it")
    if not 0 <= int(str(attempts)) <= MAX_RETRIES:
        raise invalid_value(
            attempts, "TASK_AUTO_RETRY_ATTEMPTS", f"it is not between 0 and {MAX_RETRIES}"
        )
