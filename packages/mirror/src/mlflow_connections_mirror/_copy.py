"""Copying from one server to another, item by item, with retries."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mlflow_connections import ConnectionsError, UnreachableError
from mlflow_connections.secrets import mask_uri
from mlflow_connections_events.files import SourceFiles
from mlflow_connections_events.replay import ReplaySink, judge
from mlflow_connections_outbox import Batch, Event, Rejected, Unauthorized, Unavailable

from ._reader import Item, SourceReader

T = TypeVar("T")

ATTEMPTS = 6
_BATCH = 500
_FIRST_PAUSE = 0.5

Side = Callable[[], AbstractContextManager[Any]]
"""Puts a server's URI, credentials and identity in force."""


class Rejection(NamedTuple):
    """Something that the destination refused.

    Attributes:
        item: The kind of item it belongs to, such as `run`.
        id: The item's ID at the source.
        event: The kind of event.
        reason: The destination's words.
    """

    item: str
    id: str
    event: str
    reason: str


class Copied(NamedTuple):
    """The result of a copy.

    Attributes:
        runs: For each source run its ID on the destination.
        counts: How much was copied: runs, metrics, files, models, versions, traces, assessments.
        rejections: Everything that the destination refused.
    """

    runs: dict[str, str]
    counts: Counter[str]
    rejections: list[Rejection]


class Copier:
    """Copies between two servers, of which one at a time is in force in this process.

    Args:
        source_uri: The tracking URI of the source.
        source: Puts the source in force.
        target_uri: The tracking URI of the destination.
        target: Puts the destination in force.
        state: A folder for the map of IDs.
    """

    def __init__(
        self, source_uri: str, source: Side, target_uri: str, target: Side, state: Path
    ) -> None:
        self._source = source
        self._target = target
        self._target_uri = target_uri
        self._state = state
        self._files = _FilesOf(SourceFiles(source_uri), source)
        self._source_uri = source_uri
        self._sink: ReplaySink | None = None
        self.result = Copied({}, Counter(), [])

    def select(self, names: Iterable[str]) -> list[Item]:
        """Fetch the list of what is to be copied, parents first.

        Raises:
            InvalidOptionError: The source has neither a run nor an experiment of this name or ID.
        """

        def fetch() -> list[Item]:
            with self._source():
                return SourceReader(self._source_uri).select(names)

        return retried(fetch, self._source_uri)

    def copy(self, item: Item) -> None:
        """Copy one item; one that was copied before is brought up to date.

        Raises:
            Unavailable: One of the servers does not answer, after some retries.
            UnreachableError: The destination refuses the experiment, and so all that is in it.
        """

        def read() -> list[Event]:
            with self._source():
                return list(item.read())

        events = retried(read, self._source_uri)
        if not self._deliver(item, events[:1]):
            # Whatever follows needs what was refused.
            if item.kind == "experiment":
                raise UnreachableError(self.result.rejections[-1].reason)
            return
        for start in range(1, len(events), _BATCH):
            self._deliver(item, events[start : start + _BATCH])
        self.result.counts[f"{item.kind}s"] += 1

    def _deliver(self, item: Item, events: list[Event]) -> list[Event]:
        """Deliver events and return those that were not refused."""
        rest = events
        refused: set[str] = set()

        def reject(position: int, reason: str) -> None:
            event = rest[position]
            if event.id not in refused:
                refused.add(event.id)
                self.result.rejections.append(Rejection(item.kind, item.id, event.kind, reason))

        def deliver() -> None:
            nonlocal rest
            batch = Batch(rest, on_reject=reject)
            try:
                with self._target():
                    if self._sink is None:
                        self._sink = ReplaySink(
                            self._target_uri, {}, self._state, files=self._files
                        )
                    self._sink.send(batch)
            finally:
                rest = rest[batch.accepted :]

        retried(deliver, self._target_uri)
        copied = self._sink and self._sink.ids.get(item.id)
        if item.kind == "run" and copied:
            self.result.runs[item.id] = copied
        delivered = [event for event in events if event.id not in refused]
        self._count(delivered)
        return delivered

    def _count(self, events: Iterable[Event]) -> None:
        counts = self.result.counts
        for event in events:
            counts["metrics"] += len(event.data.get("metrics", ()))
            counts["files"] += event.data.get("count", 0)
            counts["models"] += event.kind == "model_logged" and event.data["status"] != "PENDING"
            counts["versions"] += event.kind == "version_created"
            counts["assessments"] += event.kind == "assessment_logged"


class _FilesOf:
    """Downloads artifacts with the source in force, in the middle of a replay into the destination."""

    def __init__(self, files: SourceFiles, source: Side) -> None:
        self._files = files
        self._source = source

    def fetch(self, event: Event, folder: Path) -> Iterable[tuple[str, Path]]:
        """Download the files of an event; a generator would leave the source in force between two."""
        found = []
        with self._source():
            for number, (path, file) in enumerate(self._files.fetch(event, folder)):
                # The next download may have the same name.
                kept = folder / str(number) / file.name
                kept.parent.mkdir()
                found.append((path, file.replace(kept)))
        return found


def retried(function: Callable[[], T], uri: str) -> T:
    """Call a function again after a pause as long as a server does not answer.

    Args:
        function: Talks to the server.
        uri: The server, for messages.

    Raises:
        Unavailable: It did not answer `ATTEMPTS` times.
        Unauthorized: It does not accept the credentials.
        UnreachableError: It refused the request.
    """
    pause = _FIRST_PAUSE
    for attempt in range(1, ATTEMPTS + 1):
        error = _failure(function, uri)
        if not isinstance(error, Exception):
            return error
        if attempt == ATTEMPTS or not isinstance(error, Unavailable) or _is_final(error):
            raise error
        time.sleep(max(pause, min(error.retry_after or 0.0, 60.0)))
        pause *= 2
    raise AssertionError("unreachable")


def _is_final(error: Exception) -> bool:
    return isinstance(error, Unauthorized)


def _failure(function: Callable[[], T], uri: str) -> T | Exception:
    """Return the result of a function, or its exception as one of the outbox."""
    try:
        return function()
    except ConnectionsError as error:
        return error
    except ImportError as error:
        # Such as the driver of a database, or MLflow's own server.
        return UnreachableError(f"{mask_uri(uri)} needs a module that is not installed: {error}.")
    except Exception as error:  # noqa: BLE001 - MLflow raises what its plugins and drivers raise
        judged = judge(error, uri)
        return UnreachableError(str(judged)) if isinstance(judged, Rejected) else judged
