"""The runs and models that this machine created, in files next to the map of IDs, for other processes and for people.

Each line is one JSON document; the last line of an ID counts. A torn last line is ignored.
"""

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow_connections_events.added_lines import AddedLines, add_line

RUNS = "runs.jsonl"
EXPERIMENTS = "experiments.jsonl"
MODELS = "models.jsonl"


class Records:
    """The lines of one file, by ID.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Mapping[str, Any]] = {}
        self._added = AddedLines(path)
        self._lock = threading.Lock()

    def add(self, key: str, data: Mapping[str, Any]) -> None:
        """Append a line. If the disk refuses it, other processes lack the record, and no error is raised."""
        with suppress(OSError):
            add_line(self._path, {"id": key, **data})

    def get(self, key: str) -> Mapping[str, Any] | None:
        """Return the last line of an ID, or None."""
        if key not in self._found:
            self.refresh()
        return self._found.get(key)

    def all(self) -> Mapping[str, Mapping[str, Any]]:
        """Return every ID with its last line, in the order of their first lines."""
        self.refresh()
        return dict(self._found)

    def refresh(self) -> None:
        """Read the lines that any process has added since the last call."""
        with self._lock, suppress(OSError):
            for data in self._added.read():
                if isinstance(data, dict) and "id" in data:
                    self._found[data.pop("id")] = data
