"""The shipper: one process per spool, which runs while there is work.

`_launcher` starts this process, which imports as little as possible.
"""

import faulthandler
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import _status
from ._delivery import Delivery
from ._files import read_destination, state_of
from ._interface import Batch, Sink, open_sink
from ._policy import Policy
from ._spool import Spool

ENDED_WELL = b"."
_LOCK_TRIES = 20
_HOUSEKEEPING = 0.5


def main(job: Mapping[str, Any]) -> None:
    """Ship a spool. The job comes through a pipe, because it contains secrets."""
    os.nice(10)  # training has priority
    collect_garbage_seldom()
    folder, policy = Path(job["folder"]), Policy(*job["policy"])
    destination = read_destination(folder)
    spool = Spool(folder, policy)
    delivery = Delivery(
        spool,
        lambda: _Watched(open_sink(destination, job["secrets"], state_of(folder)), policy.watchdog),
        policy,
        lambda status: _status.write(folder, status),
        read_ahead=True,
    )
    serve(spool, delivery, policy)
    os.write(sys.stdout.fileno(), ENDED_WELL)


def collect_garbage_seldom() -> None:
    """Tune the garbage collector of a process that only delivers: events come in thousands, and contain no cycles."""
    gc.set_threshold(50_000, 20, 20)


class _Watched:
    """A sink with a watchdog: the process of a send without progress is abandoned, and replaced."""

    def __init__(self, sink: Sink, seconds: float) -> None:
        self._sink = sink
        self._seconds = seconds
        self.close = sink.close

    def send(self, batch: Batch) -> None:
        accept = batch.accept

        def accept_and_wait_on(count: int) -> None:
            accept(count)
            faulthandler.dump_traceback_later(self._seconds, exit=True)

        batch.accept = accept_and_wait_on  # type: ignore[method-assign]
        batch.allow = lambda seconds: faulthandler.dump_traceback_later(
            self._seconds + seconds, exit=True
        )
        faulthandler.dump_traceback_later(self._seconds, exit=True)
        try:
            self._sink.send(batch)
        finally:
            faulthandler.cancel_dump_traceback_later()
            del batch.accept  # the original method is back, without a cycle


def serve(
    spool: Spool, delivery: Delivery, policy: Policy, stop: Callable[[], bool] = lambda: False
) -> None:
    """Deliver until nothing is left and nobody writes, or until continuing is pointless.

    Ends as well if another shipper holds the lock, or has taken it over with accepted credentials,
    and if a command asks for it while nobody writes.
    """
    ended = threading.Event()
    keeper = threading.Thread(
        target=_do_housekeeping, args=(spool, delivery, policy, ended), daemon=True
    )
    keeper.start()
    try:
        if _lock(spool, policy):
            _Service(spool, delivery, policy, stop).run()
    finally:
        ended.set()
        delivery.close()
        spool.unlock()


def _do_housekeeping(
    spool: Spool, delivery: Delivery, policy: Policy, ended: threading.Event
) -> None:
    """Sync events to the disk and report long sends, in parallel with delivery, which may hang for a while."""
    every = policy.sync or _HOUSEKEEPING
    while not ended.wait(every):
        with suppress(OSError):  # an append will see the error too
            if policy.sync and not policy.sync_events:
                spool.sync()
        delivery.report_stall()


class _Service:
    def __init__(
        self, spool: Spool, delivery: Delivery, policy: Policy, stop: Callable[[], bool]
    ) -> None:
        self._spool = spool
        self._delivery = delivery
        self._policy = policy
        self._stop = stop
        self._is_over = False
        self._asked_to_end = spool.end_requested()
        self._flushed = 0.0
        self._counted_at = 0.0
        self._useful_at = time.monotonic()

    def run(self) -> None:
        while not self._ends():
            mark = self._spool.flush_requested()
            if self._delivery.step(flush=mark != self._flushed):
                self._useful_at = time.monotonic()
                self._save_counts()
                continue
            self._flushed = mark
            self._spool.save_counts()
            failing = self._delivery.status.state != _status.OK
            if not (self._continue_after_failure() if failing else self._continue_after_success()):
                return
            self._pause()

    def _ends(self) -> bool:
        """Return whether to end now: it is told to, or a command asks for it and nobody writes."""
        if not self._is_over:
            asked = self._spool.end_requested()
            self._is_over = self._stop() or (
                asked != self._asked_to_end and not self._spool.has_writers()
            )
            self._asked_to_end = asked
        return self._is_over

    def _save_counts(self) -> None:
        if time.monotonic() > self._counted_at + 1.0:
            self._counted_at = time.monotonic()
            self._spool.save_counts()

    def _pause(self) -> None:
        """Sleep until the next check, or until a process waits in `flush`, which is cheaper to check."""
        until = time.monotonic() + self._policy.linger / 4
        while not self._ends():
            time.sleep(self._policy.poll)
            if time.monotonic() >= until or self._spool.flush_requested() != self._flushed:
                return

    def _continue_after_success(self) -> bool:
        if self._delivery.has_work:
            self._useful_at = time.monotonic()
        is_used = self._spool.remove_delivered()
        if is_used and time.monotonic() < self._useful_at + self._policy.idle:
            return True
        self._spool.unlock()
        # A process that wrote at this moment may have seen the lock, and relies on this shipper.
        has_news = bool(self._spool.collect(1)) if is_used else self._spool.is_in_use()
        return has_news and _lock(self._spool, self._policy)

    def _continue_after_failure(self) -> bool:
        if self._spool.has_writers():
            self._useful_at = time.monotonic()
        elif time.monotonic() > self._useful_at + self._policy.patience:
            return False
        if self._delivery.status.state != _status.UNAUTHORIZED:
            return True
        # Another process may have other credentials.
        self._spool.unlock()
        while self._delivery.pause() > 0 and self._spool.flush_requested() == self._flushed:
            if self._ends():
                return False
            time.sleep(self._policy.poll)
        return _lock(self._spool, self._policy)


def _lock(spool: Spool, policy: Policy) -> bool:
    """Take the lock, with several attempts: others test it now and then, which takes an instant."""
    for _ in range(_LOCK_TRIES):
        if spool.try_lock():
            return True
        time.sleep(policy.poll / 2)
    return False
