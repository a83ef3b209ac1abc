"""Tasks: their clauses.

A finalizer is documented at https://docs.snowflake.com/en/user-guide/tasks-graphs; the numbers of its
errors are assumed.
"""

from mlflow_connections_sandbox._snowflake._errors import (
    Name,
    compilation,
    dotted,
    insufficient,
    invalid_value,
)
from mlflow_connections_sandbox._snowflake._session import SqlSession
from mlflow_connections_sandbox._snowflake.objects._catalog import Catalog, Entry
from mlflow_connections_sandbox._snowflake.objects._privileges import ACCOUNT_KEY, Access
from mlflow_connections_sandbox._snowflake.sql._statements import Alter, Target


class Shapes:
    """Reads graphs out of the catalog.

    Args:
        catalog: What exists.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def of(self, root: Entry) -> dict[Name, object]:
        """Give what must stay as it is for a retry: each task, as it was created and altered."""
        tasks = [*self.tasks(root), *self.finalizer(root)]
        return {
            task.name: (task.created, {k: v for k, v in task.properties.items() if k != "STATE"})
            for task in tasks
        }

    def tasks(self, root: Entry) -> list[Entry]:
        """Give the root and every resumed task that comes after it."""
        found = [root]
        tasks = [e for e in self._catalog if e.kind == "TASK"]
        grown = True
        while grown:
            names = {e.name for e in found}
            more = [
                e
                for e in tasks
                if e.name not in names
                and e.properties["STATE"] == "started"
                and names & set(e.properties.get("AFTER", ()))
            ]
            found += more
            grown = bool(more)
        return found

    def before(self, entry: Entry) -> list[Name]:
        """Give the predecessors that count: the root, and those that are resumed."""
        found = []
        for name in entry.properties.get("AFTER", ()):
            task = self._catalog.find(("TASK", name, None))
            if task is not None and (
                task.properties["STATE"] == "started" or not task.properties.get("AFTER")
            ):
                found.append(name)
        return found

    def finalizer(self, root: Entry) -> list[Entry]:
        """Give the resumed finalizer of a root, if there is one."""
        return [
            entry
            for entry in self._catalog
            if entry.kind == "TASK"
            and entry.properties.get("FINALIZE") == root.name
            and entry.properties["STATE"] == "started"
        ]


def check_task(entry: Entry, session: SqlSession, catalog: Catalog, access: Access) -> None:
    """Look at a new task's clauses, and complete the names in it.

    Raises:
        SqlError: It has a schedule and predecessors, or one of these is missing, elsewhere,
            another role's, or started; or it finalizes what it cannot.
    """
    properties = entry.properties
    properties.setdefault("STATE", "suspended")
    if "FINALIZE" in properties:
        properties["FINALIZE"] = _finalized(entry, session, catalog, access)
        return
    if "AFTER" not in properties:
        return
    if "SCHEDULE" in properties:
        raise compilation("A task has either a SCHEDULE or predecessors.", 91090)
    properties["AFTER"] = [
        _predecessor(entry, name, session, catalog, access) for name in properties["AFTER"]
    ]


def alter_task(
    entry: Entry, statement: Alter, session: SqlSession, catalog: Catalog, access: Access
) -> None:
    """Resume or suspend a task, or change what it comes after.

    Raises:
        SqlError: It may not be.
    """
    properties = entry.properties
    if statement.action == "RESUME":
        if not access.holds(session.role, "EXECUTE TASK", ACCOUNT_KEY):
            raise insufficient("ACCOUNT", "SANDBOX")
        if not properties.keys() & {"SCHEDULE", "AFTER", "FINALIZE"}:
            raise invalid_value("", "SCHEDULE", "a task without one cannot be resumed")
        properties["STATE"] = "started"
    elif statement.action == "SUSPEND":
        properties["STATE"] = "suspended"
    elif statement.action == "ADD AFTER":
        if "FINALIZE" in properties:
            raise compilation("A finalizer task has no predecessors.", 91090)
        names = [
            _predecessor(entry, name, session, catalog, access)
            for name in statement.properties["AFTER"]
        ]
        properties["AFTER"] = [*properties.get("AFTER", ()), *names]
    elif statement.action == "REMOVE AFTER":
        gone = {session.in_schema(name) for name in statement.properties["AFTER"]}
        properties["AFTER"] = [name for name in properties.get("AFTER", ()) if name not in gone]


def _predecessor(
    entry: Entry, name: tuple[str, ...], session: SqlSession, catalog: Catalog, access: Access
) -> tuple[str, ...]:
    key = catalog.key(Target("TASK", name), session)
    found = access.own(session, key)
    if found.name[:2] != entry.name[:2]:
        raise compilation(f"Task '{dotted(found.name)}' is in another schema.", 91093)
    if "FINALIZE" in found.properties:
        raise compilation(f"The finalizer task {dotted(found.name)} has no child tasks.", 91094)
    _only_suspended(found, catalog)
    return found.name


def _finalized(
    entry: Entry, session: SqlSession, catalog: Catalog, access: Access
) -> tuple[str, ...]:
    """Give the root that a task finalizes."""
    if entry.properties.keys() & {"AFTER", "SCHEDULE"}:
        raise compilation("A finalizer task has neither a SCHEDULE nor predecessors.", 91090)
    key = catalog.key(Target("TASK", entry.properties["FINALIZE"]), session)
    root = access.own(session, key)
    if root.name[:2] != entry.name[:2]:
        raise compilation(f"Task '{dotted(root.name)}' is in another schema.", 91093)
    if root.properties.get("AFTER") or "FINALIZE" in root.properties:
        raise compilation(f"Task {dotted(root.name)} is no root task.", 91098)
    for other in catalog:
        if other.properties.get("FINALIZE") == root.name and other.name != entry.name:
            raise compilation(
                f"Task {dotted(root.name)} has the finalizer task {dotted(other.name)} already.",
                91095,
            )
        if other.kind == "TASK" and entry.name in other.properties.get("AFTER", ()):
            raise compilation(f"The finalizer task {dotted(entry.name)} has child tasks.", 91094)
    _only_suspended(root, catalog)
    return root.name


def _only_suspended(task: Entry, catalog: Catalog) -> None:
    root = task
    while root.properties.get("AFTER"):
        root = catalog.get(("TASK", root.properties["AFTER"][0], None))
    if root.properties["STATE"] == "started":
        raise compilation(
            f"Unable to update graph with root task {dotted(root.name)} since that root task is "
            "not suspended.",
            91089,
        )
