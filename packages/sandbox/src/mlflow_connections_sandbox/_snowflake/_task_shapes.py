"""The shape of a graph of tasks: which belong to it, and which come before which."""

from ._catalog import Catalog, Entry
from ._errors import Name


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
