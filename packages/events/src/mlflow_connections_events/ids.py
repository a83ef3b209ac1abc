"""The map from the IDs in events to the IDs on the destination, kept in a file.

A sink that replays events appends to it; a write-behind store reads it, perhaps in other processes,
to resolve provisional IDs. It does not need MLflow.
"""

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .added_lines import AddedLines, add_line

__all__ = [
    "CATALOG_SERVER_TAG",
    "CATALOG_SOURCE_TAG",
    "COPIED_TAG",
    "OWN_TAGS",
    "SERVER_TAG",
    "SOURCE_TAG",
    "IdMap",
    "is_copy_of_version",
    "may_be_from",
]

FILE = "ids.jsonl"
SOURCE_TAG = "mlflow_connections.source_id"
"""The tag of copied runs, logged models and versions with the ID in the events that created them."""
SERVER_TAG = "mlflow_connections.source_server"
"""The tag of copied runs and versions with the address of the server that they come from, without credentials."""
COPIED_TAG = "mlflow_connections.copied"
"""The tag of entities that `mlflow-connections mirror` has copied completely: digests of their parts."""
CATALOG_SOURCE_TAG = "mlflow_connections_source_id"
"""The same for versions in Unity Catalog, whose tags' names have no period (mlflow/recipes-examples#58)."""
CATALOG_SERVER_TAG = "mlflow_connections_source_server"
OWN_TAGS = frozenset({SOURCE_TAG, SERVER_TAG, COPIED_TAG, CATALOG_SOURCE_TAG, CATALOG_SERVER_TAG})
"""The tags that these packages add to entities."""


def may_be_from(tags: Mapping[str, str], server: str) -> bool:
    """Return whether an entity with these tags may be a copy from a server.

    Args:
        tags: The entity's tags.
        server: The server's address, or an empty text if that does not matter.
    """
    named = tags.get(SERVER_TAG) or tags.get(CATALOG_SERVER_TAG)
    return not server or not named or named == server


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

    def place_of(self, uri: str) -> str:
        """Return the destination's URI for a URI of the source's artifacts, or of anything else."""
        for root, target in self.pairs().items():
            if "/" in root and (uri == root or uri.startswith(f"{root}/")):
                return target + uri[len(root) :]
        return self.replaced(uri)

    def pairs(self) -> Mapping[str, str]:
        """Return all pairs."""
        return dict(self._ids)


def is_copy_of_version(version: Any, data: Mapping[str, Any], ids: IdMap, server: str) -> bool:
    """Return whether a version on the destination, with the number of another one, is its copy.

    The servers of two teams may have the same models, and one server may have two addresses.

    Args:
        version: The destination's version.
        data: The event that creates the other one.
        ids: The map of IDs.
        server: The address of the server that the event comes from, or an empty text.
    """
    if may_be_from(version.tags, server):
        return True
    if run := data.get("source_run"):
        return bool(version.run_id == ids.get(run))
    return bool(version.source == ids.place_of(data["source"]))


_LONG = 32
_LONG_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-")
