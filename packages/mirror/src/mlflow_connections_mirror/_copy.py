"""Copying from one server to another, item by item, several concurrently."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from mlflow_connections import InvalidOptionError, UnreachableError, use
from mlflow_connections_events.ids import COPIED_TAG
from mlflow_connections_events.replay import ReplaySink
from mlflow_connections_outbox import Batch, Event, Unauthorized, Unavailable

from ._credentials import MirroredServer, address
from ._existing import Existing
from ._progress import ProgressLine
from ._reader import Item
from ._retries import retried
from ._source import SourceProcess

WORKERS = 4
"""The number of items copied concurrently. A server answers several requests, and a database has one writer."""


class Rejection(NamedTuple):
    """An entity or value that the destination refused.

    Attributes:
        item: The kind of its item, such as `run`.
        id: The item's ID at the source.
        event: The kind of event.
        reason: The destination's reason.
    """

    item: str
    id: str
    event: str
    reason: str


class Copied(NamedTuple):
    """The result of a copy.

    Attributes:
        runs: The destination's ID of each source run.
        counts: The numbers of copied runs, metrics, files, models, versions, traces and
            assessments.
        unchanged: The numbers of items of each kind that already existed unchanged.
        rejections: Everything that could not be read, or that the destination refused.
    """

    runs: dict[str, str]
    counts: Counter[str]
    unchanged: Counter[str]
    rejections: list[Rejection]


class Copier:
    """Copies between two servers: the source is in force in a separate process, the destination in this one.

    Args:
        source: The server to copy from: a URI, the name of a connection, or a keyword.
        target: The server to copy to.
        state: A folder for the map of IDs.
        progress: Shows the progress of the copy.

    Attributes:
        result: The result so far.
        target_uri: The destination's tracking URI, once it is in force.
    """

    def __init__(
        self,
        source: str,
        target: str,
        state: Path,
        progress: ProgressLine,
    ) -> None:
        self.result = Copied({}, Counter(), Counter(), [])
        self._target_name = target
        self._state = state
        self._progress = progress
        self._lock = threading.Lock()
        self._refused: set[tuple[str, str]] = set()
        self._created: set[tuple[str, str]] = set()
        self._restored: set[str] = set()
        self._exit = ExitStack()
        self._source = SourceProcess(source)
        self._exit.callback(self._source.close)
        self._pool = ThreadPoolExecutor(WORKERS)
        self._exit.callback(self._pool.shutdown, cancel_futures=True)
        self.target_uri = ""

    def select(self, names: Iterable[str]) -> list[Item]:
        """Activate both servers, and fetch the list of items to copy, parents first.

        Raises:
            ConnectionsError: The source has neither a run nor an experiment of this name or ID, one
                of the servers cannot be resolved, or both are the same.
            Unavailable: One of the servers does not respond, after some retries.
        """
        opened = self._pool.submit(self._source.open)
        self.target_uri = uri = self._exit.enter_context(use(self._target_name)).tracking_uri
        source = opened.result()
        if source == address(MirroredServer(uri, {})):
            raise InvalidOptionError(
                "--from and --to name the same server; name another destination."
            )
        selected = self._pool.submit(self._source.select, names)
        self._sink = retried(
            lambda: ReplaySink(
                uri, {}, self._state, files=self._source, durable=False, source=source
            ),
            uri,
        )
        self._existing = Existing(
            self._sink.client, self._sink.ids, self._sink.expect_absent, source
        )
        return selected.result()

    def copy(self, items: list[Item]) -> None:
        """Copy items; those that were copied before are updated.

        Everything is created before it is filled, so that the destination's IDs are known when one
        entity names another. Refused parts are in the result.

        Raises:
            Unavailable: One of the servers does not respond, after some retries.
            UnreachableError: The destination refuses an experiment, and thus everything in it.
        """
        self._progress.expect(len(items))
        registered = self._pool.submit(self._source.registered)
        for some in _of_one_experiment(items):
            retried(lambda: self._existing.look_up(some), self.target_uri)  # noqa: B023
        for item in items:
            if item.kind == "experiment":
                self._announce(item)
        for some in _levels(items):
            self._each(self._announce, some)
        self._each(self._fill, [each for each in items if not self._is_refused(each)])
        # In the order of their creation, and so with the same numbers.
        named = registered.result()
        self._progress.expect(len(named))
        self._each(self._fill, named)
        # A deleted run accepts no values.
        self._each(self._delete, [each for each in items if each.is_deleted])

    def close(self) -> None:
        """End the source's process, and deactivate the destination."""
        self._exit.close()

    def _each(self, function: Callable[[Item], None], items: Iterable[Item]) -> None:
        futures: list[Future[None]] = [self._pool.submit(function, item) for item in items]
        try:
            for future in futures:
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def _is_refused(self, item: Item) -> bool:
        return (item.kind, item.id) in self._refused

    def _announce(self, item: Item) -> None:
        """Create an item without its content."""
        is_there = self._existing.has(item)
        if item.announcement is None or is_there:
            self._note_run(item)
            if item.kind != "experiment":
                return
        assert item.announcement is not None  # noqa: S101 - of an experiment
        self._progress.show(item.kind, item.name)
        refusals = self._deliver(item, [item.announcement])
        if not is_there:
            self._created.add((item.kind, item.id))
        self._note_run(item)
        if refusals:
            # The following events need the refused one.
            if item.kind == "experiment":
                raise UnreachableError(next(iter(refusals.values())))
            self._refused.add((item.kind, item.id))

    def _note_run(self, item: Item) -> None:
        if item.kind == "run" and (copied := self._sink.ids.get(item.id)):
            self.result.runs[item.id] = copied

    def _fill(self, item: Item) -> None:
        """Send the parts of an item that the destination lacks."""
        self._progress.show(item.kind, item.name)
        files = self._existing.files_of_whole(item)
        is_unchanged = files is not None
        if files is None:
            try:
                is_unchanged = self._fill_with(item, self._source.read(item))
            except Unauthorized:
                raise
            except (UnreachableError, Unavailable) as error:
                if isinstance(error, Unavailable) and not self._sink.answers():
                    raise
                self._reject(item, item.kind, str(error))
                self._progress.advance()
                return
        else:
            self._count_whole(item, files)
        with self._lock:
            if not self._is_refused(item):
                self.result.counts[f"{item.kind}s"] += 1
            if is_unchanged and (item.kind, item.id) not in self._created:
                self.result.unchanged[f"{item.kind}s"] += 1
        self._progress.advance()

    def _fill_with(self, item: Item, events: list[Event]) -> bool:
        """Send the rest of an item, and return whether there was none."""
        if item.kind == "registered model":
            retried(lambda: self._existing.look_up_registered(item, events), self.target_uri)
        rest = self._existing.rest(item, events)
        if self._existing.is_deleted(item) and (rest or not item.is_deleted):
            restored = {"stage": "active"}
            rest = [Event(item.id, "stage_changed", 0, restored, f"{item.id} restored"), *rest]
            self._restored.add(item.id)
        refused = self._deliver(item, rest)
        self._count(event for event in events if event.id not in refused)
        if any(event.kind == "trace_logged" and event.id in refused for event in rest):
            self._refused.add((item.kind, item.id))
        if item.digest and not refused:
            note = self._existing.whole(item, events)
            self._note(item, "trace_tagged", {"key": COPIED_TAG, "value": note})
        elif refused and item.kind == "run":
            # The next copy retries.
            self._note(item, "logged", {"tags": {COPIED_TAG: "refused"}})
        return not rest

    def _note(self, item: Item, kind: str, data: dict[str, Any]) -> None:
        self._deliver(item, [Event(item.id, kind, 0, data, f"{item.id} noted")])

    def _delete(self, item: Item) -> None:
        is_there = self._existing.is_deleted(item) and item.id not in self._restored
        if is_there or self._is_refused(item):
            return
        deleted = Event(item.id, "stage_changed", 0, {"stage": "deleted"}, f"{item.id} deleted")
        self._deliver(item, [deleted])

    def _deliver(self, item: Item, events: list[Event]) -> dict[str, str]:
        """Deliver events, and return the reasons for refused ones, by their IDs."""
        rest = events
        refused: dict[str, str] = {}

        def reject(position: int, reason: str) -> None:
            event = rest[position]
            if event.id not in refused:
                refused[event.id] = reason
                self._reject(item, event.kind, reason)

        def deliver() -> None:
            nonlocal rest
            batch = Batch(rest, on_reject=reject)
            try:
                self._sink.send(batch)
            finally:
                rest = rest[batch.accepted :]

        if rest:
            retried(deliver, self.target_uri)
        return refused

    def _reject(self, item: Item, event: str, reason: str) -> None:
        with self._lock:
            self.result.rejections.append(Rejection(item.kind, item.id, event, reason))

    def _count_whole(self, item: Item, files: int) -> None:
        with self._lock:
            self.result.counts["files"] += files
            self.result.counts["assessments"] += item.assessments

    def _count(self, events: Iterable[Event]) -> None:
        with self._lock:
            counts = self.result.counts
            for event in events:
                counts["metrics"] += len(event.data.get("metrics", ()))
                counts["files"] += event.data.get("count", 0)
                counts["versions"] += event.kind == "version_created"
                counts["assessments"] += event.kind == "assessment_logged"


def _of_one_experiment(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the items of each experiment that has runs, models or traces, or is one itself."""
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.experiment_id, []).append(item)
    yield from found.values()


def _levels(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the items that are created before they are filled: runs, nested ones after their parents, then models."""
    runs: dict[int, list[Item]] = {}
    for item in items:
        if item.kind == "run":
            runs.setdefault(item.depth, []).append(item)
    yield from (runs[depth] for depth in sorted(runs))
    yield [item for item in items if item.kind == "model"]
