"""The shipper: one for each spool, in a process of its own, for as long as it is of use.

This process is started by `_launch` and imports as little as it can.
"""

import faulthandler
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


def main(job: Mapping[str, Any]) -> None:
    """Ship a spool; its job comes through a pipe, for it holds secrets."""
    os.nice(10)  # training comes first
    folder, policy = Path(job["folder"]), Policy(*job["policy"])
    destination = read_destination(folder)
    spool = Spool(folder)
    delivery = Delivery(
        spool,
        lambda: _Watched(open_sink(destination, job["secrets"], state_of(folder)), policy.watchdog),
        policy,
        lambda status: _status.write(folder, status),
    )
    serve(spool, delivery, policy)
    os.write(sys.stdout.fileno(), ENDED_WELL)


class _Watched:
    """A sink whose sends end: the process of one that hangs is given up, and replaced."""

    def __init__(self, sink: Sink, seconds: float) -> None:
        self._sink = sink
        self._seconds = seconds
        self.close = sink.close

    def send(self, batch: Batch) -> None:
        faulthandler.dump_traceback_later(self._seconds, exit=True)
        try:
            self._sink.send(batch)
        finally:
            faulthandler.cancel_dump_traceback_later()


def serve(
    spool: Spool, delivery: Delivery, policy: Policy, stop: Callable[[], bool] = lambda: False
) -> None:
    """Deliver until nothing is left and nobody writes, or until it is of no use to go on.

    Ends as well when another shipper holds the lock, or took it over with credentials that work.
    """
    ended = threading.Event()
    if policy.sync:
        # Beside delivery, which may hang for a while.
        threading.Thread(target=_sync, args=(spool, policy.sync, ended), daemon=True).start()
    try:
        if _lock(spool, policy):
            _Service(spool, delivery, policy, stop).run()
    finally:
        ended.set()
        delivery.close()
        spool.unlock()


def _sync(spool: Spool, every: float, ended: threading.Event) -> None:
    while not ended.wait(every):
        with suppress(OSError):  # an append meets it too
            spool.sync()


class _Service:
    def __init__(
        self, spool: Spool, delivery: Delivery, policy: Policy, stop: Callable[[], bool]
    ) -> None:
        self._spool = spool
        self._delivery = delivery
        self._policy = policy
        self._stop = stop
        self._hurried = 0
        self._useful_at = time.monotonic()

    def run(self) -> None:
        while not self._stop():
            mark = self._spool.hurried()
            if self._delivery.step(hurry=mark != self._hurried):
                self._useful_at = time.monotonic()
                continue
            self._hurried = mark
            well = self._delivery.status.state == _status.OK
            if not (self._goes_on_well() if well else self._goes_on_failing()):
                return
            self._pause()

    def _pause(self) -> None:
        """Sleep until the next look, or until somebody is in a hurry, which costs less to see."""
        until = time.monotonic() + self._policy.linger / 4
        while not self._stop():
            time.sleep(self._policy.poll)
            if time.monotonic() >= until or self._spool.hurried() != self._hurried:
                return

    def _goes_on_well(self) -> bool:
        if self._delivery.has_work:
            self._useful_at = time.monotonic()
        is_used = self._spool.remove_delivered()
        if is_used and time.monotonic() < self._useful_at + self._policy.idle:
            return True
        self._spool.unlock()
        # Who wrote in this moment may have seen the lock, and relies on this shipper.
        anew = bool(self._spool.collect(1)) if is_used else self._spool.is_in_use()
        return anew and _lock(self._spool, self._policy)

    def _goes_on_failing(self) -> bool:
        if self._spool.has_writers():
            self._useful_at = time.monotonic()
        elif time.monotonic() > self._useful_at + self._policy.patience:
            return False
        if self._delivery.status.state != _status.UNAUTHORIZED:
            return True
        # Whoever has other credentials gets a turn.
        self._spool.unlock()
        while self._delivery.pause() > 0 and self._spool.hurried() == self._hurried:
            if self._stop():
                return False
            time.sleep(self._policy.poll)
        return _lock(self._spool, self._policy)


def _lock(spool: Spool, policy: Policy) -> bool:
    """Take the lock; more than once, for others look at it now and then, which takes an instant."""
    for _ in range(_LOCK_TRIES):
        if spool.try_lock():
            return True
        time.sleep(policy.poll / 2)
    return False
