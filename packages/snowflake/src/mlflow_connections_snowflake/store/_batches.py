"""What waits to be sent, and how it is cut into requests. Nothing here knows MLflow or Snowflake."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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
