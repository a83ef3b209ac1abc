"""All outboxes on this machine: report, deliver, retry and drop their events."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from . import _dead_letters, _status
from ._counts import NOT_TAKEN, Counts, read_counts, read_not_taken
from ._delivery import Delivery
from ._disk import DISK
from ._files import ASIDE, OVERFLOW, read_destination, segments, segments_in, spools, state_of
from ._interface import Destination, Event, forget_dropped, open_sink
from ._policy import Policy
from ._reader import is_alive, read_header, waiting_in
from ._retry import retry
from ._spool import Spool, is_locked, request_end, request_flush
from ._status import Status

_POLL_EVERY = 0.1
_END_SECONDS = 10.0

__all__ = [
    "Content",
    "Report",
    "Shipped",
    "drop",
    "outboxes",
    "reports",
    "retry",
    "ship",
    "waiting_events",
]


class Content(NamedTuple):
    """The events in a spool.

    Attributes:
        events: The number of waiting events.
        bytes: Their size.
        writers: The number of segments that a living process still writes.
        oldest: The time of the oldest waiting event, in seconds since the epoch; None if nothing
            waits.
        overflow: The number of waiting events beyond the limit of the spool, which are sent in
            order.
        rejected: The number of permanently rejected events, which are kept.
        rejected_bytes: Their size.
        aside: The number of events set aside for their age.
        damaged: The number of unreadable lines.
        other_machines: The number of waiting events that belong to another machine.
        not_taken: The number of events lost because neither the disk nor memory had room for them.
    """

    events: int = 0
    bytes: int = 0
    writers: int = 0
    oldest: float | None = None
    overflow: int = 0
    rejected: int = 0
    rejected_bytes: int = 0
    aside: int = 0
    damaged: int = 0
    other_machines: int = 0
    not_taken: int = 0


class Report(NamedTuple):
    """One outbox.

    Attributes:
        destination: The destination of its events; None if it cannot be read, as described in
            `problem`.
        folder: The spool.
        content: The events in it.
        counts: The events that have left it.
        status: The last report of its shipper.
        shipping: Whether a shipper is at work.
        problem: The reason why the outbox cannot be used; empty if it can.
    """

    destination: Destination | None
    folder: Path
    content: Content = Content()
    counts: Counts = Counts()
    status: Status = Status()
    shipping: bool = False
    problem: str = ""

    @property
    def name(self) -> str:
        """The name of the destination, or of the folder if that cannot be read."""
        return self.destination.name if self.destination else self.folder.name

    @property
    def address(self) -> str:
        """The name and the URL of the destination, or the folder where these cannot be read."""
        if self.destination is None:
            return self.folder.name
        return f"{self.destination.name} at {self.destination.url}"

    def identity(self) -> dict[str, str | None]:
        """Return the name and the URL of the destination, and the folder, as JSON."""
        url = self.destination.url if self.destination else None
        return {"name": self.name, "url": url, "folder": str(self.folder)}

    def is_named(self, named: str) -> bool:
        """Return whether a text is the name of the destination or its first word, the URL, or the folder."""
        return named in {*self.identity().values(), self.folder.name, self.name.partition(" ")[0]}

    @property
    def is_clean(self) -> bool:
        """Whether nothing waits, nothing was set aside, and the outbox can be used."""
        content = self.content
        return not (content.events or content.rejected or content.aside or self.problem)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            **self.identity(),
            **self.content._asdict(),
            "delivered": self.counts.delivered,
            "shipping": self.shipping,
            "state": self.status.state,
            "reason": self.status.reason,
            "since": self.status.since or None,
            "problem": self.problem,
        }


class Shipped(NamedTuple):
    """The result of shipping one outbox.

    Attributes:
        delivered: The number of events delivered meanwhile.
        waiting: The number of events that still wait.
        rejected: The number of events permanently rejected meanwhile.
        aside: The number of events set aside for their age, now or before.
        reason: The destination's reason if the last attempt failed.
        dead_letters: The number of permanently rejected events that are kept, from now or before.
    """

    delivered: int
    waiting: int
    rejected: int
    aside: int
    reason: str
    dead_letters: int


def outboxes(named: str | None = None) -> list[Report]:
    """Find every outbox of this user, or those of one destination, without counting events.

    An outbox that cannot be used is returned with its problem, and does not hide the others.

    Args:
        named: The name of a destination or its first word, its URL, or the folder of its outbox; None
            for all.
    """
    return [report for report in map(_find, spools()) if named is None or report.is_named(named)]


def reports(named: str | None = None) -> list[Report]:
    """Read every outbox of this user, or those of one destination; see `outboxes`.

    An outbox that cannot be used is reported with its problem, and does not hide the others.
    """
    return list(map(_report, outboxes(named)))


def _find(folder: Path) -> Report:
    try:
        return Report(read_destination(folder), folder)
    except (OSError, ValueError) as error:
        return Report(None, folder, problem=str(error))


def _report(found: Report) -> Report:
    if found.problem:
        return found
    folder = found.folder
    try:
        return Report(
            *(found.destination, folder, measure(folder), read_counts(folder)),
            *(_shown(folder), is_locked(folder)),
        )
    except OSError as error:
        return found._replace(problem=str(error))


def _shown(folder: Path) -> Status:
    """Read the status, without a send that ended with its process."""
    status = _status.read(folder)
    if status.state == _status.WAITING and not is_locked(folder):
        return status._replace(state=_status.UNAVAILABLE, reason="no answer", since=0.0)
    return status


def measure(folder: Path, *, check: bool = True) -> Content:
    """Count the events in a spool, without its lock and without changing it.

    Args:
        folder: The spool.
        check: Whether to distinguish damaged lines from events, which takes longer.

    Raises:
        OSError: The folder is gone.
    """
    counts = read_counts(folder)
    events = size = writers = others = overflow = 0
    damaged = counts.damaged
    oldest: int | None = None
    trusts_locks = DISK.sees_other_machines(folder)
    for _, path in segments(folder):
        try:
            found = waiting_in(path, check=check)
            if not trusts_locks and _is_foreign(path):
                others += found.events
            else:
                writers += is_alive(path)
        except FileNotFoundError:
            continue  # delivered in the meantime
        events, size = events + found.events, size + found.bytes
        overflow += found.events if path.parent.name == OVERFLOW else 0
        damaged += found.damaged
        if found.oldest is not None:
            oldest = found.oldest if oldest is None else min(oldest, found.oldest)
    aside = 0
    with suppress(FileNotFoundError):
        aside = sum(waiting_in(path).events for _, path in segments_in(folder / ASIDE))
    return Content(
        *(events, size, writers, None if oldest is None else oldest / 1000, overflow),
        *(_dead_letters.count(folder), _dead_letters.size(folder), aside),
        *(damaged, others, read_not_taken(folder)),
    )


def _is_foreign(path: Path) -> bool:
    descriptor = DISK.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header, machine = read_header(descriptor), DISK.machine()
    finally:
        DISK.close(descriptor)
    return header.boot != machine.boot and header.host != machine.host


def ship(
    folder: Path,
    timeout: float,
    progress: Callable[[int, int], None] | None = None,
    *,
    adopt: bool = False,
    to: str | None = None,
) -> Shipped:
    """Deliver waiting events, or ask a running shipper to deliver them at once.

    Nothing is set aside for its age: the caller wants it delivered.

    Args:
        folder: The outbox.
        timeout: The time limit in seconds.
        progress: Called with the number of delivered and waiting events, which are counted first.
        adopt: Whether to deliver other machines' events as well; those machines must no longer
            write.
        to: The address of another destination of the same kind, instead of the outbox's own.

    Raises:
        OSError: The outbox cannot be read.
        ValueError: It is damaged.
    """
    policy = Policy.read()[0]._replace(max_age=float("inf"))
    spool = Spool(folder, policy, adopt=adopt)
    destination = _destination(folder, spool, to)
    delivery = Delivery(
        spool,
        lambda: open_sink(destination, {}, state_of(folder)),
        policy,
        lambda status: _status.write(folder, status),
        read_ahead=True,
    )
    deadline = time.monotonic() + timeout
    rejected = _dead_letters.count(folder)
    delivered = read_counts(folder).delivered
    total = measure(folder, check=False).events if progress else 0
    try:
        while time.monotonic() < deadline:
            if not spool.try_lock():
                request_flush(folder)
                waiting = measure(folder, check=False).events
                if progress:
                    progress(max(0, total - waiting), waiting)
                if not waiting:
                    break
            elif delivery.step(flush=True):
                if progress:
                    progress(delivery.delivered, max(0, total - delivery.delivered))
                continue
            elif not delivery.has_work or delivery.status.state == _status.UNAUTHORIZED:
                break
            time.sleep(_POLL_EVERY)
        if delivery.status.state == _status.OK and spool.try_lock():
            spool.remove_delivered()
    finally:
        delivery.close()
        spool.unlock()
    after = measure(folder)
    return Shipped(
        max(delivery.delivered, read_counts(folder).delivered - delivered),
        after.events,
        max(0, after.rejected - rejected),
        after.aside,
        delivery.status.reason,
        after.rejected,
    )


def _destination(folder: Path, spool: Spool, to: str | None) -> Destination:
    """Read the destination of an outbox, and replace its address once no process delivers to it."""
    destination = read_destination(folder)
    if to is None:
        return destination
    _take_over(spool)
    return destination._replace(url=to)


def _take_over(spool: Spool) -> None:
    """Take the lock of a spool, from a shipper that outlives the processes that wrote if need be.

    Raises:
        BlockingIOError: Processes still write, or the shipper does not end.
        OSError: The folder cannot be written.
    """
    deadline = time.monotonic() + _END_SECONDS
    while not spool.try_lock():
        if spool.has_writers():
            raise BlockingIOError(
                f"Processes still write to {spool.folder}, and their shipper delivers from it: end "
                "them first."
            )
        if time.monotonic() > deadline:
            raise BlockingIOError(
                f"A shipper waits for its destination with events from {spool.folder}: repeat this "
                "in a minute."
            )
        request_end(spool.folder)
        time.sleep(_POLL_EVERY)


def waiting_events(folder: Path) -> list[Event]:
    """Read the waiting events of an outbox, in order, without removing them.

    Raises:
        OSError: The outbox cannot be read.
    """
    spool = Spool(folder, Policy(batch_bytes=sys.maxsize))
    return [record.event for record in spool.collect(sys.maxsize)]


def drop(folder: Path, *, rejected_only: bool = False) -> int:
    """Delete waiting and set-aside events, and return their number.

    Args:
        folder: The outbox.
        rejected_only: Whether to drop only the rejected events.

    Raises:
        BlockingIOError: Processes still write to it, or its shipper waits for the destination.
        OSError: It cannot be written.
    """
    content = measure(folder)
    total = content.rejected
    rejected = _rejected_events(folder)
    if not rejected_only:
        spool = Spool(folder, adopt=True)
        try:
            _take_over(spool)
            total += spool.drop_waiting() + content.aside
        finally:
            spool.unlock()
        with suppress(FileNotFoundError):
            for _, path in segments_in(folder / ASIDE):
                path.unlink(missing_ok=True)
        (folder / NOT_TAKEN).unlink(missing_ok=True)
    for path in _dead_letters.files(folder):
        path.unlink(missing_ok=True)
    forget_dropped(read_destination(folder), state_of(folder), rejected if rejected_only else None)
    return total


def _rejected_events(folder: Path) -> list[Event]:
    found: list[Event] = []
    for path in _dead_letters.files(folder):
        with suppress(FileNotFoundError):
            letters, descriptor = _dead_letters.take(path)
            DISK.close(descriptor)
            found += [letter.event for letter in letters]
    return found
