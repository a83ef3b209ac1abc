"""Delivering events: in batches, again after a failure, and without the rejected ones."""

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Protocol

from mlflow_connections.secrets import mask

from . import _status
from ._disk import DISK
from ._interface import Batch, Rejected, Sink, Unauthorized, Unavailable
from ._policy import Policy
from ._reader import Record
from ._status import Status

_LONGEST_WAIT = 300.0
_FLUSH_PAUSE = 1.0
_SLOW = 1.0  # after a failure that took more seconds, the batch's size may be the cause
_STALLED = 2.0
_MOST_UNTIL_GROWTH = 64


class Source(Protocol):
    """A source of events: a spool, or the memory of a process without a disk."""

    def collect(self, limit: int) -> list[Record]:
        """Return the next events in order; the same ones again until they are acknowledged."""

    def read_ahead(self, limit: int) -> None:
        """Make the next call of `collect` fast; called by another thread."""

    def acknowledge(self, records: Sequence[Record], rejected: int = 0) -> None:
        """Forget events that the destination has, or that were rejected."""

    def reject(self, record: Record, reason: str) -> None:
        """Set aside an event that the destination will never accept."""

    def postpone(self, record: Record) -> None:
        """Queue an event again as the newest one; the caller acknowledges it in its old place."""

    def expire(self, seconds: float) -> int:
        """Set aside events that are too old, and return their number."""

    def damaged(self) -> int:
        """Return the number of unreadable lines."""


class _ReadAhead:
    """A thread that reads the next batch while another one is being sent."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._limits: SimpleQueue[int | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, limit: int) -> None:
        """Prepare so many events, in addition to those being sent, as soon as possible."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="read ahead", daemon=True)
            self._thread.start()
        self._limits.put(limit)

    def end(self) -> None:
        """End the thread; the next call of `begin` starts another."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._limits.put(None)
            thread.join()

    def _run(self) -> None:
        while (limit := self._limits.get()) is not None:
            with suppress(Exception):  # `collect` will raise it too
                self._source.read_ahead(limit)


class Delivery:
    """Takes events from a source to a sink, a batch at a time.

    Args:
        source: The events.
        open_sink: Opens the sink; called again after each failure, because credentials may have
            changed.
        policy: Batches, pauses and the age limit.
        report: Called with each change of the status.
        read_ahead: Whether a thread reads the next batch while another one is being sent.

    Attributes:
        status: The state of the delivery.
        delivered: The number of delivered events.
        has_work: Whether events waited at the last check.
        limit: The maximum number of events in the next batch: fewer after failures, more after
            successes.
    """

    def __init__(
        self,
        source: Source,
        open_sink: Callable[[], Sink],
        policy: Policy,
        report: Callable[[Status], None],
        *,
        read_ahead: bool = False,
    ) -> None:
        self.status = Status(pid=os.getpid())
        self.delivered = 0
        self.has_work = True
        self.limit = policy.batch
        self._careful_from = policy.batch
        self._until_growth = 1
        self._successes = 0
        self._source = source
        self._open_sink = open_sink
        self._policy = policy
        self._report = report
        self._sink: Sink | None = None
        self._done = 0
        self._retry_at = self._flush_at = float("-inf")
        self._sending_since: float | None = None
        self._reported_stall = False
        self._ahead = _ReadAhead(source) if read_ahead else None

    def step(self, flush: bool = False) -> bool:
        """Send a batch if one is due, and return whether one was delivered.

        Args:
            flush: Do not wait for the batch to grow, nor for the end of a long pause.
        """
        now = time.monotonic()
        if now < (self._flush_at if flush else self._retry_at):
            return False
        records = self._source.collect(self.limit)
        self.has_work = bool(records)
        if not records:
            return False
        before = self._done
        self._sending_since = now
        try:
            if self._sink is None:
                # Open the sink while the batch grows: a sink's imports may take longer than that.
                self._sink = self._open_sink()
                records = self._source.collect(self.limit)
            if not (flush or self._is_due(records)):
                return False
            if self._ahead is not None and len(records) == self.limit:
                self._ahead.begin(2 * self.limit)
            self._deliver(self._sink, records)
        except Exception as error:  # noqa: BLE001 - a sink may raise anything; events must survive it
            self._shrink(len(records), self._done - before, time.monotonic() - now)
            self._note_failure(error, self._done > before)
            return False
        finally:
            self._sending_since = None
        self._grow()
        self._note_success()
        return True

    def report_stall(self) -> None:
        """Report a send that takes long; called by another thread than `step`."""
        since = self._sending_since
        if since is None or self._reported_stall or time.monotonic() < since + _STALLED:
            return
        self._reported_stall = True
        began = time.time() - (time.monotonic() - since)
        self._report(
            self.status._replace(
                state=_status.WAITING,
                since=began,
                at=time.monotonic(),
                boot=DISK.machine().boot,
            )
        )

    def pause(self) -> float:
        """Return the seconds until the next attempt after a failure."""
        return self._retry_at - time.monotonic()

    def close(self) -> None:
        """Close the sink, and end the thread that reads ahead."""
        if self._ahead is not None:
            self._ahead.end()
        sink, self._sink = self._sink, None
        if sink is not None:
            with suppress(Exception):  # it is no longer needed
                sink.close()

    def _is_due(self, records: Sequence[Record]) -> bool:
        age = time.monotonic_ns() - records[0].stamp
        # Stamps of an earlier boot may be in the future of this one's clock.
        young = 0 <= age < self._policy.linger * 1e9
        return len(records) >= self.limit or not young

    def _deliver(self, sink: Sink, records: Sequence[Record]) -> None:
        """Send records and acknowledge those that the destination has, whatever happens to the rest."""
        rejected: set[int] = set()
        accepted = 0

        # Without a reference to the batch: a cycle would keep its events until a garbage
        # collection.
        def accept(count: int) -> None:
            nonlocal accepted
            bad = sum(accepted <= position < count for position in rejected)
            self._acknowledge(records[accepted:count], bad)
            accepted = count

        def reject(position: int, reason: str) -> None:
            if position not in rejected:
                self._reject(records[position], mask(" ".join(reason.split())[:500]))
                rejected.add(position)

        def postpone(position: int) -> None:
            if position not in rejected:
                self._source.postpone(records[position])
                rejected.add(position)  # it is not delivered, and not sent again in its place

        batch = Batch([record.event for record in records], accept, reject, postpone)
        try:
            sink.send(batch)
        except Rejected as rejection:
            rest = records[accepted:]
            bad = {position - accepted for position in rejection.positions}
            known = {position - accepted for position in rejected}
            if rest:
                self._isolate_rejected(
                    sink, rest, sorted((bad | known) & set(range(len(rest)))), known, rejection
                )
        else:
            batch.accept(len(records))

    def _isolate_rejected(
        self,
        sink: Sink,
        records: Sequence[Record],
        bad: Sequence[int],
        known: set[int],
        rejection: Rejected,
    ) -> None:
        """Set rejected events aside, and deliver the rest in order.

        Args:
            sink: The sink.
            records: The records of a batch that were not accepted.
            bad: The positions of the faulty ones; empty if the sink does not know.
            known: Those of them that are already dead letters.
            rejection: The sink's exception.
        """
        if len(records) == 1:
            if not known:
                self._reject(records[0], _words(rejection))
            self._acknowledge(records, 1)
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
            if position not in known:
                self._reject(records[position], _words(rejection))
            self._acknowledge(records[position : position + 1], 1)
            start = position + 1
        if start < len(records):
            self._deliver(sink, records[start:])

    def _acknowledge(self, records: Sequence[Record], rejected: int) -> None:
        self._source.acknowledge(records, rejected)
        self._done += len(records)
        self.delivered += len(records) - rejected

    def _reject(self, record: Record, reason: str) -> None:
        self._source.reject(record, reason)
        self._say(self.status._replace(rejected=self.status.rejected + 1, rejection=reason))

    def _shrink(self, sent: int, done: int, seconds: float) -> None:
        """Send fewer events next time, but at least as many as were accepted this time."""
        self.limit = max(1, done, sent // 2)
        if seconds >= _SLOW:
            # The size may be the cause, so grow slowly from there, and more slowly after each
            # failure: few attempts fail, and little is sent twice.
            self._careful_from = self.limit
            self._until_growth = min(2 * self._until_growth, _MOST_UNTIL_GROWTH)
            self._successes = 0

    def _grow(self) -> None:
        if self.limit < self._careful_from:
            self.limit = min(self.limit * 2, self._careful_from)
            return
        self._successes += 1
        if self.limit < self._policy.batch and self._successes >= self._until_growth:
            self.limit = min(self._policy.batch, self.limit + max(1, self.limit // 8))
            self._careful_from = max(self._careful_from, self.limit)
            self._successes = 0
        if self.limit == self._policy.batch:
            self._until_growth = 1

    def _note_failure(self, error: Exception, progressed: bool) -> None:
        self.close()
        attempts = 1 if progressed else self.status.attempts + 1
        policy = self._policy
        # Up to 2**10 only: the pause reaches its maximum before, and larger powers would grow
        # without limit.
        pause = min(policy.max_backoff, policy.backoff * 2 ** min(attempts - 1, 10))
        pause *= random.uniform(0.5, 1.0)  # noqa: S311 - spreads the retries of many clients
        asked = error.retry_after if isinstance(error, Unavailable) else None
        asked = min(asked or 0.0, _LONGEST_WAIT)
        now = time.monotonic()
        self._retry_at = now + max(pause, asked)
        self._flush_at = now + max(min(_FLUSH_PAUSE, policy.max_backoff), asked)
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
        self._retry_at = self._flush_at = float("-inf")
        ok = self.status._replace(
            state=_status.OK, reason="", attempts=0, damaged=self._source.damaged()
        )
        if ok != self.status or not self.status.at or self._reported_stall:
            self._say(ok)

    def _say(self, status: Status) -> None:
        self._reported_stall = False
        self.status = status._replace(at=time.monotonic(), boot=DISK.machine().boot)
        self._report(self.status)


def _words(error: Exception) -> str:
    """Return the message of an error, on one line, without secrets."""
    words = " ".join(str(error).split())[:500]
    if isinstance(error, (Unavailable, Rejected)) and words:
        return mask(words)
    return mask(f"{type(error).__name__}: {words}" if words else type(error).__name__)
