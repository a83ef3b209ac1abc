"""The runs and models that this machine created, in files beside the map of IDs, for other processes and for people.

Each line is one JSON document; the last line of an ID wins. A torn last line is passed over.
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
        """Append a line. A disk that refuses it costs other processes the knowledge, and nobody an error."""
        with suppress(OSError):
            add_line(self._path, {"id": key, **data})

    def get(self, key: str) -> Mapping[str, Any] | None:
        """Return the last line of an ID, or None."""
        if key not in self._found:
            self.refresh()
        return self._found.get(key)

    def all(self) -> Mapping[str, Mapping[str, Any]]:
        """Return every ID with its last line, in the order in which they were first written."""
        self.refresh()
        return dict(self._found)

    def refresh(self) -> None:
        """Read what was added since the last time, by any process."""
        with self._lock, suppress(OSError):
            for data in self._added.read():
                if isinstance(data, dict) and "id" in data:
                    self._found[data.pop("id")] = data
