"""The runs and models that this machine created, in files beside the map of IDs, for other processes and for people.

Each line is one JSON document; the last line of an ID wins. A torn last line is passed over.
"""

import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

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
        self._read = 0
        self._lock = threading.Lock()

    def add(self, key: str, data: Mapping[str, Any]) -> None:
        """Append a line. A disk that refuses it costs other processes the knowledge, and nobody an error."""
        line = b"\n" + json.dumps({"id": key, **data}).encode() + b"\n"
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
            descriptor = os.open(self._path, flags, 0o600)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError:
            pass

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
        with self._lock:
            try:
                with self._path.open("rb") as file:
                    file.seek(self._read)
                    content = file.read()
            except OSError:
                return
            whole = content[: content.rfind(b"\n") + 1]
            self._read += len(whole)
            for line in whole.splitlines():
                # Else it is empty, or a killed process left it unfinished.
                with suppress(ValueError, KeyError, AttributeError):
                    data = json.loads(line)
                    self._found[data.pop("id")] = data
