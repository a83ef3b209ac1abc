"""Logged values that wait to be sent, cut into as few requests as possible; independent of MLflow."""

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
"""The maximum size of a request: MLflow refuses more than 1 MB (1e6 bytes)."""

Item = dict[str, Any]


class BufferedEntry(NamedTuple):
    """One logged value.

    Attributes:
        kind: `metrics`, `params` or `tags`.
        item: The value in the JSON form of MLflow's REST API.
    """

    kind: str
    item: Item

    def __str__(self) -> str:
        """The value as messages name it."""
        return f"{self.kind[:-1]} {self.item['key']!r}"


@dataclass
class Pending:
    """The buffered values of one run, in the order in which they were logged.

    Attributes:
        metrics: Every value.
        params: Params by key: MLflow refuses a request with a param twice.
        tags: Tags by key: the last value counts.
        since: The time at which the oldest was added, on the monotonic clock.
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

    def entries(self) -> list[BufferedEntry]:
        """Return all values: params and tags first, which describe the metrics."""
        return [
            *(BufferedEntry("params", item) for item in self.params.values()),
            *(BufferedEntry("tags", item) for item in self.tags.values()),
            *(BufferedEntry("metrics", item) for item in self.metrics),
        ]

    def put_back(self, entries: list[BufferedEntry]) -> None:
        """Put unsent values before those that were logged in the meantime."""
        self.metrics[:0] = [entry.item for entry in entries if entry.kind == "metrics"]
        for kind, kept in (("params", self.params), ("tags", self.tags)):
            before = {e.item["key"]: e.item for e in entries if e.kind == kind}
            later = dict(kept)
            kept.clear()
            kept.update(before | later)


def cut(entries: list[BufferedEntry]) -> Iterator[list[BufferedEntry]]:
    """Yield the values in batches that MLflow accepts as one request."""
    limits = {"metrics": METRICS, "params": PARAMS, "tags": TAGS}
    batch: list[BufferedEntry] = []
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


def body_of(run_id: str, batch: list[BufferedEntry]) -> dict[str, Any]:
    """Return the body of a request to `runs/log-batch`."""
    body: dict[str, Any] = {"run_id": run_id}
    for entry in batch:
        body.setdefault(entry.kind, []).append(entry.item)
    return body


_logger = get_logger(__name__)

_SEARCH_STATEMENTS = 64
"""The maximum number of statements spent to find the refused values of a batch."""
_OFF_THREAD_LIMIT = 10 * ALL
"""The maximum number of values of other threads that wait for the session's thread."""

# These codes concern the run, and so every value of a batch.
_ABOUT_THE_RUN = frozenset(
    {"RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_STATE"}
)

Refusal = tuple[list[BufferedEntry], str]


class RefusedItemsError(Exception):
    """MLflow refused some of the logged values, and stored all others.

    Attributes:
        run_id: The run.
    """

    def __init__(self, run_id: str, refusals: list[Refusal]) -> None:
        self.run_id = run_id
        told = "; ".join(f"{_names(entries)}: {reason.rstrip('.')}" for entries, reason in refusals)
        super().__init__(
            f"MLflow refused some values of run {run_id}, and stored all others: {told}."
        )


class WriteBuffer:
    """Holds logged values until there is a reason to send them.

    A procedure's session accepts statements from one thread at a time, and most reliably from its
    own. Nothing is therefore sent in the background: only calls to MLflow send, and calls on other
    threads leave it to the session's thread unless very many values wait.

    Args:
        send: Sends the body of one `runs/log-batch`.
        seconds: The maximum age of a value before the next call sends it; 0 sends immediately.
        burst: The number of calls that send immediately nevertheless; one more every `seconds`, up
            to this number.
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
        """Add values, and send the buffer if it is large or old enough.

        Raises:
            RefusedItemsError: MLflow refused some of the values sent now.
            ConnectionsError: They could not be sent, and stay in the buffer.
        """
        with self.lock:
            pending = self._runs.setdefault(run_id, Pending())
            pending.metrics += metrics
            pending.params.update((item["key"], item) for item in params)
            for item in tags:
                # Removed first, so that the order is that of the last values.
                pending.tags.pop(item["key"], None)
                pending.tags[item["key"]] = item
            if not self._seconds:
                self.flush(run_id)
            elif threading.get_ident() == self._thread:
                self._flush_due()
            elif len(pending) >= _OFF_THREAD_LIMIT:
                self.flush(run_id)

    def flush(self, run_id: str) -> None:
        """Send all buffered values of a run.

        Raises:
            RefusedItemsError: MLflow refused some of them.
            ConnectionsError: They could not be sent, and stay in the buffer.
        """
        with self.lock:
            pending = self._runs.pop(run_id, None)
            if not pending:
                return
            refusals = self._send_all(run_id, pending.entries())
        if refusals:
            raise RefusedItemsError(run_id, refusals)

    def flush_all(self) -> None:
        """Send all buffered values. A run whose values are refused does not delay the others.

        Raises:
            RefusedItemsError: MLflow refused values of a run; those of further runs are logged.
            ConnectionsError: They could not be sent, and stay in the buffer.
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

    def _send_all(self, run_id: str, entries: list[BufferedEntry]) -> list[Refusal]:
        refusals: list[Refusal] = []
        sent = 0
        try:
            for batch in cut(entries):
                refusals += _Attempt(self._send, run_id).send(batch)
                sent += len(batch)
        except BaseException:
            # Sending twice is harmless: MLflow keeps one of several values with the same time and step.
            self._runs.setdefault(run_id, Pending()).put_back(entries[sent:])
            if refusals:
                _logger.warning("%s", RefusedItemsError(run_id, refusals))
            raise
        return refusals


class _Attempt:
    """Sends one batch, and finds the refused values if it is refused."""

    def __init__(self, send: Callable[[JsonObject], object], run_id: str) -> None:
        self._send = send
        self._run_id = run_id
        self._left = _SEARCH_STATEMENTS

    def send(self, batch: list[BufferedEntry]) -> list[Refusal]:
        """Send a batch, in halves if it is refused."""
        self._left -= 1
        try:
            self._send(body_of(self._run_id, batch))
        except MlflowRefusedError as error:
            if len(batch) == 1 or self._left <= 0 or error.code in _ABOUT_THE_RUN:
                return [(batch, error.message)]
            middle = len(batch) // 2
            return self.send(batch[:middle]) + self.send(batch[middle:])
        return []


def _names(entries: list[BufferedEntry]) -> str:
    shown = ", ".join(str(entry) for entry in entries[:3])
    return shown if len(entries) <= 3 else f"{shown} and {len(entries) - 3} more"
