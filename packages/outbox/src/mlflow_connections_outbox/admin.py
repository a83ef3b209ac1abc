"""What a person can do with the outboxes on this machine, whoever filled them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from . import _status
from ._delivery import Delivery
from ._files import read_destination, spools, state_of
from ._interface import Destination, open_sink
from ._measure import REFUSED, Waiting, measure
from ._policy import Policy
from ._spool import Spool, is_locked, request_flush
from ._status import Status

_LOOK_EVERY = 0.1


class Report(NamedTuple):
    """One outbox.

    Attributes:
        destination: Where its events go.
        folder: Where they are.
        waiting: What is in it.
        status: What its shipper last said.
        shipping: Whether a shipper is at work.
    """

    destination: Destination
    folder: Path
    waiting: Waiting
    status: Status
    shipping: bool

    def plain(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {
            "name": self.destination.name,
            "url": self.destination.url,
            "folder": str(self.folder),
            **self.waiting._asdict(),
            "shipping": self.shipping,
            "state": self.status.state,
            "reason": self.status.reason,
        }


class Shipped(NamedTuple):
    """What came of shipping one outbox.

    Attributes:
        delivered: How many events this process delivered.
        waiting: How many still wait.
        refused: How many the destination refused for good.
        reason: The destination's words if the last attempt failed.
    """

    delivered: int
    waiting: int
    refused: int
    reason: str


def reports(name: str | None = None) -> list[Report]:
    """Look at every outbox of this user, or at those of one destination's name.

    Raises:
        OSError: One of them cannot be read, or others could have written to it.
        ValueError: One of them is damaged.
    """
    found = [(folder, read_destination(folder)) for folder in spools()]
    return [
        Report(
            destination,
            folder,
            measure(folder),
            _status.read(folder),
            is_locked(folder),
        )
        for folder, destination in found
        if name in {None, destination.name}
    ]


def ship(folder: Path, timeout: float, progress: Callable[[int, int], None]) -> Shipped:
    """Deliver what waits, from this process, or hurry the shipper that is at it.

    Args:
        folder: The outbox.
        timeout: Seconds to try at most.
        progress: Called with how many events were delivered and how many wait.
    """
    spool, policy = Spool(folder), Policy.read()[0]
    destination = read_destination(folder)
    delivery = Delivery(
        spool,
        lambda: open_sink(destination, {}, state_of(folder)),
        policy,
        lambda status: _status.write(folder, status),
    )
    deadline = time.monotonic() + timeout
    total = measure(folder).events
    try:
        while time.monotonic() < deadline:
            if not spool.try_lock():
                request_flush(folder)
                waiting = measure(folder).events
                progress(max(0, total - waiting), waiting)
                if not waiting:
                    break
            elif delivery.step(hurry=True):
                progress(delivery.delivered, max(0, total - delivery.delivered))
                continue
            elif not delivery.has_work or delivery.status.state == _status.UNAUTHORIZED:
                break
            time.sleep(_LOOK_EVERY)
        if delivery.status.state == _status.OK and spool.try_lock():
            spool.remove_delivered()
    finally:
        delivery.close()
        spool.unlock()
    status = delivery.status
    return Shipped(delivery.delivered, measure(folder).events, status.refused, status.reason)


def drop(folder: Path, *, refused_only: bool) -> int:
    """Give up what waits, and what was refused; tell how many events that were.

    Raises:
        BlockingIOError: A shipper is at work on it.
    """
    refused = measure(folder).refused
    waiting = 0
    if not refused_only:
        spool = Spool(folder)
        try:
            if not spool.try_lock():
                raise BlockingIOError(
                    f"A shipper is delivering from {folder}: end the processes that write to it first."
                )
            waiting = spool.give_up_all()
        finally:
            spool.unlock()
    (folder / REFUSED).unlink(missing_ok=True)
    return waiting + refused
