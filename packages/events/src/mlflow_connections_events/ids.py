"""The map from the IDs in events to the IDs on the destination, kept in a file.

A sink that replays events appends to it; a write-behind store reads it, perhaps in other processes,
to resolve provisional IDs. It does not need MLflow.
"""

import re
import threading
from collections.abc import Mapping
from pathlib import Path

from .added_lines import AddedLines, add_line

__all__ = ["CATALOG_SOURCE_TAG", "COPIED_TAG", "SOURCE_TAG", "IdMap"]

FILE = "ids.jsonl"
SOURCE_TAG = "mlflow_connections.source_id"
"""The tag of copied runs, logged models and versions with the ID in the events that created them."""
COPIED_TAG = "mlflow_connections.copied"
"""The tag of entities that `mlflow-connections mirror` has copied completely: digests of their parts."""
CATALOG_SOURCE_TAG = "mlflow_connections_source_id"
"""The same for versions in Unity Catalog, whose tags' names have no period (mlflow/recipes-examples#58)."""


class IdMap:
    """IDs of runs, logged models, experiments and traces, numbers of versions, and roots of artifacts.

    IDs of different kinds do not collide: the key of a version is `<registered model>/<number>`.
    Each line of the file is one pair. A torn last line, left by a killed process, is ignored. Safe
    for threads; one process writes, any number may read.

    Args:
        folder: The state folder of the sink.
        durable: Whether pairs survive a power failure.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self._path = folder / FILE
        self._durable = durable
        self._ids: dict[str, str] = {}
        self._added = AddedLines(self._path)
        self._lock = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Read the pairs that another process has appended."""
        with self._lock:
            for line in self._added.read():
                if isinstance(line, list) and len(line) == 2:
                    self._ids[line[0]] = line[1]

    def get(self, source: str) -> str | None:
        """Return the destination's ID, or None if it is unknown."""
        return self._ids.get(source)

    def put(self, source: str, target: str) -> None:
        """Remember a pair. It survives the end of this process.

        Raises:
            OSError: The file cannot be written.
        """
        with self._lock:
            add_line(self._path, [source, target], durable=self._durable)
            self._ids[source] = target

    def replaced(self, text: str) -> str:
        """Return a text in which every source ID is replaced by the destination's ID.

        Only IDs of at least 32 characters are replaced, because shorter texts may mean something
        else.
        """
        # Most texts contain neither an ID nor a URI, and there may be many pairs.
        if "://" not in text and not _LONG_ID.search(text):
            return text
        for source, target in self.pairs().items():
            if len(source) >= _LONG and source in text:
                text = text.replace(source, target)
        return text

    def pairs(self) -> Mapping[str, str]:
        """Return all pairs."""
        return dict(self._ids)


_LONG = 32
_LONG_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-")
