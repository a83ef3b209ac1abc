"""Copying existing runs from one server to another, run by run, with retries."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mlflow_connections import ConnectionsError, UnreachableError
from mlflow_connections_events.files import SourceFiles
from mlflow_connections_events.replay import ReplaySink, judge
from mlflow_connections_outbox import Batch, Event, Rejected, Unauthorized, Unavailable

from ._reader import RunReader

T = TypeVar("T")

ATTEMPTS = 6
_BATCH = 500
_FIRST_PAUSE = 0.5

Side = Callable[[], AbstractContextManager[Any]]
"""Puts a server's URI, credentials and identity in force."""


class Rejection(NamedTuple):
    """An event that the destination refused.

    Attributes:
        run: The source run.
        kind: The kind of event.
        reason: The destination's words.
    """

    run: str
    kind: str
    reason: str


class Copied(NamedTuple):
    """The result of a copy.

    Attributes:
        runs: For each source run its ID on the destination.
        counts: How much was copied: metrics, files, models and versions.
        rejections: Everything that the destination refused.
    """

    runs: dict[str, str]
    counts: Counter[str]
    rejections: list[Rejection]


class Copier:
    """Copies runs between two servers, of which one at a time is in force in this process.

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

    def select(self, names: Iterable[str]) -> list[Any]:
        """Fetch the runs to copy, parents first.

        Raises:
            InvalidOptionError: The source has neither a run nor an experiment of this name or ID.
        """

        def fetch() -> list[Any]:
            with self._source():
                self._reader = RunReader(self._source_uri)
                return self._reader.select(names)

        return retried(fetch, self._source_uri)

    def copy(self, run: Any) -> None:
        """Copy one run; a run that was copied before is brought up to date.

        Raises:
            Unavailable: One of the servers does not answer, after some retries.
        """

        def read() -> list[Event]:
            with self._source():
                return list(self._reader.events(run))

        events = retried(read, self._source_uri)
        for start in range(0, len(events), _BATCH):
            self._deliver(run.info.run_id, events[start : start + _BATCH])
        self._count(events)

    def _deliver(self, run: str, events: list[Event]) -> None:
        rest = events

        def reject(position: int, reason: str) -> None:
            event = rest[position]
            self.result.rejections.append(Rejection(run, event.kind, reason))

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
            if (copied := self._sink.ids.get(run)) is not None:
                self.result.runs[run] = copied

        retried(deliver, self._target_uri)

    def _count(self, events: Iterable[Event]) -> None:
        counts = self.result.counts
        counts["runs"] += 1
        for event in events:
            counts["metrics"] += len(event.data.get("metrics", ()))
            counts["files"] += event.data.get("count", 0)
            counts["models"] += event.kind == "model_logged" and event.data["status"] != "PENDING"
            counts["versions"] += event.kind == "version_created"


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
    except Exception as error:  # noqa: BLE001 - MLflow raises what its plugins and drivers raise
        judged = judge(error, uri)
        return UnreachableError(str(judged)) if isinstance(judged, Rejected) else judged
