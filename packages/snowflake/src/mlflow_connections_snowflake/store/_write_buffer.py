"""What waits to be sent, and how it is cut into requests. Nothing here knows MLflow or Snowflake."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mlflow_connections.secrets import get_logger
from mlflow_connections_snowflake._client import JsonObject
from mlflow_connections_snowflake._errors import MlflowRefusedError

# https://mlflow.org/docs/latest/rest-api.html#log-batch
METRICS, PARAMS, TAGS, ALL = 1000, 100, 100, 1000
BYTES = 900_000
"""MLflow refuses a request of more than 1 MB (1e6 bytes)."""

Item = dict[str, Any]


class Entry(NamedTuple):
    """One thing that was logged.

    Attributes:
        kind: `metrics`, `params` or `tags`.
        item: As MLflow's REST API has it.
    """

    kind: str
    item: Item

    def __str__(self) -> str:
        """As messages name it."""
        return f"{self.kind[:-1]} {self.item['key']!r}"


@dataclass
class Pending:
    """What one run waits for, in the order in which it was logged.

    Attributes:
        metrics: Every value.
        params: By key: MLflow refuses a request that has one twice.
        tags: By key: the last value counts.
        since: When the oldest was added, on the monotonic clock.
    """

    metrics: list[Item] = field(default_factory=list)
    params: dict[str, Item] = field(default_factory=dict)
    tags: dict[str, Item] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)

    def __len__(self) -> int:
        return len(self.metrics) + len(self.params) + len(self.tags)

    @property
    def is_full(self) -> bool:
        """Whether there is enough for one request."""
        return (
            len(self.metrics) >= METRICS
            or len(self.params) >= PARAMS
            or len(self.tags) >= TAGS
            or len(self) >= ALL
        )

    def entries(self) -> list[Entry]:
        """Give everything: params and tags first, which tell what the metrics are of."""
        return [
            *(Entry("params", item) for item in self.params.values()),
            *(Entry("tags", item) for item in self.tags.values()),
            *(Entry("metrics", item) for item in self.metrics),
        ]

    def put_back(self, entries: list[Entry]) -> None:
        """Put what could not be sent before what was logged meanwhile."""
        self.metrics[:0] = [entry.item for entry in entries if entry.kind == "metrics"]
        for kind, kept in (("params", self.params), ("tags", self.tags)):
            before = {e.item["key"]: e.item for e in entries if e.kind == kind}
            later = dict(kept)
            kept.clear()
            kept.update(before | later)


def cut(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Cut what waits into requests that MLflow takes."""
    limits = {"metrics": METRICS, "params": PARAMS, "tags": TAGS}
    batch: list[Entry] = []
    counts = dict.fromkeys(limits, 0)
    size = 0
    for entry in entries:
        length = len(json.dumps(entry.item)) + 2
        full = counts[entry.kind] == limits[entry.kind] or len(batch) == ALL
        if batch and (full or size + length > BYTES):
            yield batch
            batch, counts, size = [], dict.fromkeys(limits, 0), 0
        batch.append(entry)
        counts[entry.kind] += 1
        size += length
    if batch:
        yield batch


def body_of(run_id: str, batch: list[Entry]) -> dict[str, Any]:
    """Give the body of a request to `runs/log-batch`."""
    body: dict[str, Any] = {"run_id": run_id}
    for entry in batch:
        body.setdefault(entry.kind, []).append(entry.item)
    return body


_logger = get_logger(__name__)

_SEARCH_STATEMENTS = 64
"""How many statements may be spent to find which items of a refused batch are to blame."""
_OFF_THREAD_LIMIT = 10 * ALL
"""So much may wait because it was logged on a thread that is not the session's."""

# What concerns the run and so every item of a batch: there is nobody to single out.
_ABOUT_THE_RUN = frozenset(
    {"RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_STATE"}
)

Refusal = tuple[list[Entry], str]


class RefusedItemsError(Exception):
    """MLflow refused some of what was logged; all else is stored.

    Attributes:
        run_id: Of which run.
    """

    def __init__(self, run_id: str, refusals: list[Refusal]) -> None:
        self.run_id = run_id
        told = "; ".join(f"{_names(entries)}: {reason.rstrip('.')}" for entries, reason in refusals)
        super().__init__(
            f"MLflow refused part of what run {run_id} logged, and stored all else: {told}."
        )


class WriteBuffer:
    """Holds what was logged until there is a reason to send it.

    A procedure's session takes statements from one thread at a time, and from its own most surely.
    So nothing is sent in the background: only calls to MLflow send, and calls on other threads
    leave it to the session's thread as long as little waits.

    Args:
        send: Sends the body of one `runs/log-batch`.
        seconds: How long something waits at most before the next call sends it; 0 for not at all.
        burst: How many calls send at once all the same; one more every `seconds`, up to so many.
    """

    def __init__(
        self, send: Callable[[JsonObject], object], seconds: float, burst: int = 0
    ) -> None:
        self._send = send
        self._seconds = seconds
        self._burst = burst
        self._credit = float(burst)
        self._credited = time.monotonic()
        self._runs: dict[str, Pending] = {}
        self._thread = threading.get_ident()
        self.lock = threading.RLock()

    def add(self, run_id: str, metrics: list[Item], params: list[Item], tags: list[Item]) -> None:
        """Take something on, and send what waits if it is enough or old enough.

        Raises:
            RefusedItemsError: MLflow refused some of what was sent now.
            ConnectionsError: It could not be sent; it waits for the next time.
        """
        with self.lock:
            pending = self._runs.setdefault(run_id, Pending())
            pending.metrics += metrics
            pending.params.update((item["key"], item) for item in params)
            for item in tags:
                # Taken out first, so that the order is that of the last values.
                pending.tags.pop(item["key"], None)
                pending.tags[item["key"]] = item
            if not self._seconds:
                self.flush(run_id)
            elif threading.get_ident() == self._thread:
                self._flush_due()
            elif len(pending) >= _OFF_THREAD_LIMIT:
                self.flush(run_id)

    def flush(self, run_id: str) -> None:
        """Send everything that waits for a run.

        Raises:
            RefusedItemsError: MLflow refused some of it.
            ConnectionsError: It could not be sent; it waits for the next time.
        """
        with self.lock:
            pending = self._runs.pop(run_id, None)
            if not pending:
                return
            refusals = self._send_all(run_id, pending.entries())
        if refusals:
            raise RefusedItemsError(run_id, refusals)

    def flush_all(self) -> None:
        """Send everything; a run whose items are refused holds no other one up.

        Raises:
            RefusedItemsError: MLflow refused some of a run; of other runs it is in the log.
            ConnectionsError: It could not be sent; it waits for the next time.
        """
        refused: list[RefusedItemsError] = []
        with self.lock:
            for run_id in list(self._runs):
                refused += self._refused_of(run_id)
        for error in refused[1:]:
            _logger.warning("%s", error)
        if refused:
            raise refused[0]

    def _refused_of(self, run_id: str) -> list[RefusedItemsError]:
        try:
            self.flush(run_id)
        except RefusedItemsError as error:
            return [error]
        return []

    def _flush_due(self) -> None:
        now = time.monotonic()
        oldest = now - self._seconds
        self._credit = min(self._burst, self._credit + (now - self._credited) / self._seconds)
        self._credited = now
        for run_id, pending in list(self._runs.items()):
            if pending.is_full or (pending and (pending.since <= oldest or self._credit >= 1)):
                self._credit = max(self._credit - 1, 0)
                self.flush(run_id)

    def _send_all(self, run_id: str, entries: list[Entry]) -> list[Refusal]:
        refusals: list[Refusal] = []
        sent = 0
        try:
            for batch in cut(entries):
                refusals += _Attempt(self._send, run_id).send(batch)
                sent += len(batch)
        except BaseException:
            # Sending twice does no harm: MLflow keeps one of what has the same time and step.
            self._runs.setdefault(run_id, Pending()).put_back(entries[sent:])
            if refusals:
                _logger.warning("%s", RefusedItemsError(run_id, refusals))
            raise
        return refusals


class _Attempt:
    """Sends one batch, and where it is refused finds the items that are to blame."""

    def __init__(self, send: Callable[[JsonObject], object], run_id: str) -> None:
        self._send = send
        self._run_id = run_id
        self._left = _SEARCH_STATEMENTS

    def send(self, batch: list[Entry]) -> list[Refusal]:
        """Send a batch, by halves where it is refused."""
        self._left -= 1
        try:
            self._send(body_of(self._run_id, batch))
        except MlflowRefusedError as error:
            if len(batch) == 1 or self._left <= 0 or error.code in _ABOUT_THE_RUN:
                return [(batch, error.message)]
            middle = len(batch) // 2
            return self.send(batch[:middle]) + self.send(batch[middle:])
        return []


def _names(entries: list[Entry]) -> str:
    shown = ", ".join(str(entry) for entry in entries[:3])
    return shown if len(entries) <= 3 else f"{shown} and {len(entries) - 3} more"
