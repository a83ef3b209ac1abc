"""Delivering events: in batches, again after a fault, and around those that are refused."""

import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from . import _status
from ._events import Refused, Sink, Unauthorized, Unavailable
from ._policy import Policy
from ._reader import Record
from ._segments import boot_id
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

    def give_up_older(self, seconds: float) -> int:
        """Forget events that are too old; tell how many."""

    def damaged(self) -> int:
        """Count what could not be read."""


class Delivery:
    """Takes events from a source to a sink, a batch at a time.

    Args:
        source: Where they come from.
        make_sink: Builds the sink; called anew after each failure, for credentials may have changed.
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
        make_sink: Callable[[], Sink],
        policy: Policy,
        report: Callable[[Status], None],
    ) -> None:
        self.status = Status(pid=os.getpid())
        self.delivered = 0
        self.has_work = True
        self._source = source
        self._make_sink = make_sink
        self._policy = policy
        self._report = report
        self._sink: Sink | None = None
        self._retry_at = self._hurry_at = float("-inf")

    def round(self, hurry: bool = False) -> bool:
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
                self._sink = self._make_sink()
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
        try:
            sink.send([record.event for record in records])
        except Refused as refusal:
            self._deliver_around(sink, records, refusal)
        else:
            self.delivered += len(records)
            self._source.acknowledge(records)

    def _deliver_around(self, sink: Sink, records: Sequence[Record], refusal: Refused) -> None:
        """Set aside what is refused, and deliver the rest in its order."""
        if len(records) == 1:
            self._refuse(records[0], refusal)
            self._source.acknowledge(records)
            return
        bad = sorted(p for p in refusal.positions if 0 <= p < len(records))
        if not bad:
            half = len(records) // 2
            self._deliver(sink, records[:half])
            self._deliver(sink, records[half:])
            return
        start = 0
        for position in bad:
            if start < position:
                self._deliver(sink, records[start:position])
            self._refuse(records[position], refusal)
            self._source.acknowledge(records[position : position + 1])
            start = position + 1
        if start < len(records):
            self._deliver(sink, records[start:])

    def _refuse(self, record: Record, refusal: Refused) -> None:
        reason = _words(refusal)
        self._source.refuse(record, reason)
        self._say(self.status._replace(refused=self.status.refused + 1, refusal=reason))

    def _note_failure(self, error: Exception) -> None:
        self.close()
        attempts = self.status.attempts + 1
        policy = self._policy
        # Up to 2**10 only: the pause has reached its most long before, and powers grow without end.
        pause = min(policy.backoff_most, policy.backoff * 2 ** min(attempts - 1, 10))
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
                given_up=self.status.given_up + self._source.give_up_older(policy.max_age),
            )
        )

    def _note_success(self) -> None:
        self._retry_at = self._hurry_at = float("-inf")
        well = self.status._replace(
            state=_status.WELL, reason="", attempts=0, damaged=self._source.damaged()
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
    if isinstance(error, (Unavailable, Refused)) and words:
        return mask(words)
    return mask(f"{type(error).__name__}: {words}" if words else type(error).__name__)
