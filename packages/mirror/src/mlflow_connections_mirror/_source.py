"""The process that reads the source: only there are its credentials and its identity in force.

Reading and writing can therefore run concurrently, though MLflow supports one server per process.
"""

import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

from mlflow_connections import ConnectionsError, use
from mlflow_connections.mlflow_state import REGISTRY_VARIABLE
from mlflow_connections.secrets import masked
from mlflow_connections_events.files import SourceFiles
from mlflow_connections_events.replay import import_mlflow, judge
from mlflow_connections_outbox import Event

from ._credentials import MirroredServer, address
from ._reader import CONNECTIONS, Item, SourceReader
from ._retries import retried


class SourceServer:
    """A server as the copy reads it. Called by threads of another process; safe for them.

    Args:
        name: The server: a URI, the name of a connection, or a keyword.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._uri = ""
        self._reader: Any = None
        self._pool = ThreadPoolExecutor(CONNECTIONS)

    def open(self) -> str:
        """Activate the server, and return its address, as of a copy.

        Raises:
            ConnectionsError: It cannot be resolved.
        """
        import_mlflow()
        # It belongs to the server that this process would have used.
        os.environ.pop(REGISTRY_VARIABLE, None)
        self._uri = use(self._name).endpoint.tracking_uri
        return address(MirroredServer(self._uri, {}))

    def select(self, names: list[str]) -> list[Item]:
        """Fetch the list of items to copy.

        Raises:
            InvalidOptionError: No experiment or run has this name or ID.
            Unavailable: The server does not respond.
        """

        def select() -> list[Item]:
            self._reader = SourceReader(self._uri)
            found: list[Item] = self._reader.select(names)
            return found

        return retried(select, self._uri)

    def registered(self) -> list[Item]:
        """Fetch the list of registered models with versions of selected runs and models."""
        found: list[Item] = retried(self._reader.registered, self._uri)
        return found

    def read(self, number: int) -> list[Event]:
        """Fetch an item as events."""
        found: list[Event] = retried(lambda: self._reader.read(number), self._uri)
        return found

    def fetch(self, event: Event, folder: Path) -> list[tuple[str, Path]]:
        """Download the files of an event into a folder.

        Raises:
            Rejected: A file no longer exists.
            Unavailable: The server does not respond.
        """
        files = SourceFiles(self._uri)

        def download(number: int, file: list[Any]) -> list[tuple[str, Path]]:
            # Two files may have the same name.
            place = folder / str(number)
            place.mkdir()
            data = {**event.data, "files": [file], "count": 1}
            return list(files.fetch(event._replace(data=data), place))

        rows = event.data["files"]
        try:
            found = list(self._pool.map(download, range(len(rows)), rows))
        except Exception as error:  # noqa: BLE001 - MLflow raises what its plugins and drivers raise
            raise judge(error, self._uri) from None
        return [each for some in found for each in some]


class _Manager(BaseManager):
    """Starts the process, and serves each calling thread by a separate thread there."""


_Manager.register("source", SourceServer)


class SourceEndedError(ConnectionsError):
    """The process that reads the source is gone."""


class SourceProcess:
    """Reads a server in a separate process, until `close`.

    Args:
        name: The server: a URI, the name of a connection, or a keyword.

    Attributes:
        pid: The ID of the process.
    """

    def __init__(self, name: str) -> None:
        # Before this process has threads or connections. A fork of it has MLflow already imported.
        import_mlflow()
        can_fork = sys.platform == "linux" and threading.active_count() == 1
        context = multiprocessing.get_context("fork" if can_fork else "spawn")
        self._manager = _Manager(ctx=context)
        with warnings.catch_warnings():
            # Python 3.12 also counts threads of C libraries, such as NumPy's, which stop for a
            # fork.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._manager.start(_end_with_parent)
        manager: Any = self._manager
        self._source = manager.source(name)
        self.pid: int = manager._process.pid

    def open(self) -> str:
        """Activate the server there, and return its address; see `SourceServer`."""
        found: str = self._call("open")
        return found

    def select(self, names: Iterable[str]) -> list[Item]:
        """Fetch the list of items to copy; see `SourceServer`."""
        found: list[Item] = self._call("select", list(names))
        return found

    def registered(self) -> list[Item]:
        """Fetch the list of registered models; see `SourceServer`."""
        found: list[Item] = self._call("registered")
        return found

    def read(self, item: Item) -> list[Event]:
        """Fetch an item as events; see `SourceServer`."""
        found: list[Event] = self._call("read", item.number)
        return found

    def fetch(self, event: Event, folder: Path) -> Iterable[tuple[str, Path]]:
        """Download the files of an event; see `SourceServer`."""
        found: list[tuple[str, Path]] = self._call("fetch", event, folder)
        return found

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._source, method)(*arguments)
        except (EOFError, BrokenPipeError, ConnectionResetError, ConnectionRefusedError) as error:
            raise SourceEndedError(
                "The process that reads the source was ended. Run the command again."
            ) from masked(error)

    def close(self) -> None:
        """End the process."""
        self._manager.shutdown()


def _end_with_parent() -> None:
    """End this process when its parent is gone, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
