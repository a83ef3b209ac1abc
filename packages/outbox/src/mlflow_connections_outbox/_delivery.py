"""Delivering events: in batches, again after a fault, and around those that are refused."""

import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from . import _status
from ._format import boot_id
from ._interface import Batch, Rejected, Sink, Unauthorized, Unavailable
from ._policy import Policy
from ._reader import Record
from ._status import Status

_MOST_THAT_IS_WAITED = 300.0
_HURRY_PAUSE = 1.0


class Source(Protocol):
    """Where events come from: a spool, or the memory of a process without a disk."""

    def collect(self, limit: int) -> list[Record]:
        """Give the next events in order; the same ones again until they are acknowledged."""

    def acknowledge(self, records: Sequence[Record]) -> None:
        """Forget events that the destination has."""

    def refuse(self, record: Record, reason: str) -> None:
        """Set an event aside that the destination will never take."""

    def expire(self, seconds: float) -> int:
        """Forget events that are too old; tell how many."""

    def damaged(self) -> int:
        """Count what could not be read."""


class Delivery:
    """Takes events from a source to a sink, a batch at a time.

    Args:
        source: Where they come from.
        open_sink: Builds the sink; called anew after each failure, for credentials may have changed.
        policy: Batches, pauses and the age limit.
        report: Called with each change of the status.

    Attributes:
        status: How delivery goes.
        delivered: How many events were.
        has_work: Whether anything waited at the last look.
    """

    def __init__(
        self,
        source: Source,
        open_sink: Callable[[], Sink],
        policy: Policy,
        report: Callable[[Status], None],
    ) -> None:
        self.status = Status(pid=os.getpid())
        self.delivered = 0
        self.has_work = True
        self._source = source
        self._open_sink = open_sink
        self._policy = policy
        self._report = report
        self._sink: Sink | None = None
        self._retry_at = self._hurry_at = float("-inf")

    def step(self, hurry: bool = False) -> bool:
        """Send a batch if one is due; tell whether one was delivered.

        Args:
            hurry: Do not wait for the batch to grow, nor for the end of a long pause.
        """
        now = time.monotonic()
        if now < (self._hurry_at if hurry else self._retry_at):
            return False
        records = self._source.collect(self._policy.batch)
        self.has_work = bool(records)
        if not records or not (hurry or self._is_due(records)):
            return False
        try:
            if self._sink is None:
                self._sink = self._open_sink()
            self._deliver(self._sink, records)
        except Exception as error:  # noqa: BLE001 - a sink may raise anything; events must survive it
            self._note_failure(error)
            return False
        self._note_success()
        return True

    def pause(self) -> float:
        """Give the seconds until the next attempt after a failure."""
        return self._retry_at - time.monotonic()

    def close(self) -> None:
        """Close the sink."""
        sink, self._sink = self._sink, None
        if sink is not None:
            with suppress(Exception):  # it is not needed any more
                sink.close()

    def _is_due(self, records: Sequence[Record]) -> bool:
        age = time.monotonic_ns() - records[0].stamp
        # Stamps of an earlier boot may lie in the future of this one's clock.
        young = 0 <= age < self._policy.linger * 1e9
        return len(records) >= self._policy.batch or not young

    def _deliver(self, sink: Sink, records: Sequence[Record]) -> None:
        """Send records and acknowledge what the destination has, whatever happens to the rest."""
        rejected: set[int] = set()

        def accept(count: int) -> None:
            done = range(batch.accepted, count)
            self._source.acknowledge(records[done.start : done.stop])
            self.delivered += sum(position not in rejected for position in done)

        def reject(position: int, reason: str) -> None:
            if position not in rejected:
                self._reject(records[position], reason)
                rejected.add(position)

        batch = Batch([record.event for record in records], accept, reject)
        try:
            sink.send(batch)
        except Rejected as refusal:
            rest = records[batch.accepted :]
            bad = {position - batch.accepted for position in refusal.positions}
            if rest:
                self._isolate_rejected(sink, rest, sorted(bad & set(range(len(rest)))), refusal)
        else:
            batch.accept(len(records))

    def _isolate_rejected(
        self, sink: Sink, records: Sequence[Record], bad: Sequence[int], refusal: Rejected
    ) -> None:
        """Set aside what is rejected, and deliver the rest in order."""
        if len(records) == 1:
            self._reject(records[0], _words(refusal))
            self._source.acknowledge(records)
            return
        if not bad:
            half = len(records) // 2
            self._deliver(sink, records[:half])
            self._deliver(sink, records[half:])
            return
        start = 0
        for position in bad:
            if start < position:
                self._deliver(sink, records[start:position])
            self._reject(records[position], _words(refusal))
            self._source.acknowledge(records[position : position + 1])
            start = position + 1
        if start < len(records):
            self._deliver(sink, records[start:])

    def _reject(self, record: Record, reason: str) -> None:
        self._source.refuse(record, reason)
        self._say(self.status._replace(refused=self.status.refused + 1, refusal=reason))

    def _note_failure(self, error: Exception) -> None:
        self.close()
        attempts = self.status.attempts + 1
        policy = self._policy
        # Up to 2**10 only: the pause has reached its most long before, and powers grow without end.
        pause = min(policy.max_backoff, policy.backoff * 2 ** min(attempts - 1, 10))
        pause *= random.uniform(0.5, 1.0)  # noqa: S311 - so that many clients do not come as one
        asked = error.retry_after if isinstance(error, Unavailable) else None
        asked = min(asked or 0.0, _MOST_THAT_IS_WAITED)
        now = time.monotonic()
        self._retry_at = now + max(pause, asked)
        self._hurry_at = now + max(_HURRY_PAUSE, asked)
        unauthorized = isinstance(error, Unauthorized)
        self._say(
            self.status._replace(
                state=_status.UNAUTHORIZED if unauthorized else _status.UNAVAILABLE,
                reason=_words(error),
                attempts=attempts,
                expired=self.status.expired + self._source.expire(policy.max_age),
            )
        )

    def _note_success(self) -> None:
        self._retry_at = self._hurry_at = float("-inf")
        well = self.status._replace(
            state=_status.OK, reason="", attempts=0, damaged=self._source.damaged()
        )
        if well != self.status or not self.status.at:
            self._say(well)

    def _say(self, status: Status) -> None:
        self.status = status._replace(at=time.monotonic(), boot=boot_id())
        self._report(self.status)


def _words(error: Exception) -> str:
    """Give an error in words, on one line, without secrets."""
    from mlflow_connections.secrets import mask

    words = " ".join(str(error).split())[:500]
    if isinstance(error, (Unavailable, Rejected)) and words:
        return mask(words)
    return mask(f"{type(error).__name__}: {words}" if words else type(error).__name__)
