"""The outbox of one destination in this process."""

import atexit
import os
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path

from mlflow_connections import mask, mask_uri

from . import _status
from ._events import Destination, Event
from ._frames import encode
from ._keeper import Keeper
from ._launch import Launcher
from ._memory import Memory
from ._policy import Policy
from ._sinks import make_sink
from ._spool import hurry
from ._telling import Teller, count
from ._writer import SpoolFull, Writer, acknowledged

_DISK_TRIED_EVERY = 1.0
_JUST_FAILED = 5.0


class Outbox:
    """Keeps events on the disk until their destination has them. Safe for threads, fork and spawn.

    One per destination and process is meant. It lives until the process ends, or `close`.

    Args:
        destination: Where the events go.
        secrets: Environment variables that the sink's factory sees and the disk never does.
        policy: Limits and timings; by default what the environment says.

    Raises:
        ValueError: The destination's URL has credentials in it, which would be on the disk.
    """

    def __init__(
        self,
        destination: Destination,
        secrets: Mapping[str, str] | None = None,
        policy: Policy | None = None,
    ) -> None:
        if mask_uri(destination.url) != destination.url:
            raise ValueError(
                f"The URL {mask_uri(destination.url)} of the destination '{destination.name}' "
                "holds credentials: hand them over as secrets."
            )
        self.destination = destination
        self._secrets = dict(secrets or {})
        self._teller = Teller()
        if policy is None:
            policy, wrong = Policy.read()
            for sentence in wrong:
                self._teller.tell(sentence, sentence)
        self._policy = policy
        self._begin()
        _living.add(self)

    def _begin(self) -> None:
        """Set up all that belongs to one process alone."""
        # Reentrant: a signal handler may append while it interrupts an append.
        self._lock = threading.RLock()
        self._writer = Writer(self.destination, self._policy)
        self._launcher: Launcher | None = None
        self._keeper: Keeper | None = None
        self._memory = Memory(
            lambda: make_sink(self.destination, self._secrets),
            self._policy,
            lambda: not self._writer.mark(),
            self._tell_refused,
        )
        self._disk_tried_at = float("-inf")
        self._begun = time.time()
        self._not_taken = 0
        self._in_vain: tuple[Path, int] | None = None

    @property
    def folder(self) -> Path | None:
        """Where this process' events are, once there are any on the disk."""
        return self._writer.folder

    def append(self, event: Event) -> None:
        """Keep an event: it is on the disk when this returns. Never raises, whatever is wrong."""
        try:
            body = encode(event)
            with self._lock:
                self._append(body)
        except Exception as error:  # noqa: BLE001 - user code must not fail for a second destination
            self._teller.tell(
                "append",
                f"An event ({event.kind}) for {self._name} could not be kept and is lost: "
                f"{mask(repr(error))}.",
            )

    def flush(self, timeout: float) -> int:
        """Wait until all that this process appended is delivered, but never long.

        Returns at once where waiting is known to be pointless: the destination just failed, or was
        waited for in vain before and has accepted nothing since. Never raises.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            How many events of this process still wait.
        """
        try:
            return self._flush(timeout)
        except Exception as error:  # noqa: BLE001 - as in append
            self._teller.tell("flush", f"Waiting for {self._name} failed: {error!r}.")
            return len(self._memory)

    def close(self, timeout: float = 0.0) -> int:
        """Flush, and leave the rest to the shipper. What is appended later opens the outbox again.

        Returns:
            How many events of this process still wait.
        """
        left = self.flush(timeout)
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.stop()
        with self._lock:
            self._writer.close()
        return left

    @property
    def _name(self) -> str:
        return f"{self.destination.name} at {self.destination.url}"

    def _append(self, body: bytes) -> None:
        if self._memory or self._disk_tried_at > time.monotonic() - _DISK_TRIED_EVERY:
            # Behind what is in memory already, so that order is kept.
            self._append_to_memory(body)
            return
        try:
            self._writer.append(body)
        except SpoolFull:
            self._not_taken += 1
            self._tell_full()
            return
        except (OSError, AttributeError) as error:
            self._disk_tried_at = time.monotonic()
            self._append_to_memory(body)
            self._teller.tell(
                "disk",
                f"The outbox of {self._name} cannot be written ({error}): events are sent from "
                "memory meanwhile, and those that wait there are lost should this process be killed.",
            )
            return
        if self._keeper is None:
            self._start_keeper()

    def _append_to_memory(self, body: bytes) -> None:
        if not self._memory.append(body):
            self._not_taken += 1
            self._teller.tell(
                "memory",
                f"The disk takes no events for {self._name}, and memory holds "
                f"{count(len(self._memory))} already: further ones are lost.",
            )

    def _start_keeper(self) -> None:
        folder = self._writer.folder
        assert folder is not None  # noqa: S101 - an event was just written to it
        self._launcher = Launcher(folder, self.destination, self._policy, self._secrets)
        self._keeper = Keeper(self._writer, self._launcher, self._policy, self._watch)
        try:
            self._keeper.start()
        except RuntimeError:  # the process is ending, or has too many threads
            self._launcher.ensure()

    def _watch(self, folder: Path, since: float) -> None:
        """Tell of what the shipper reports. Called by the keeper."""
        status = _status.read(folder)
        if status.at < since:
            return
        if status.state == _status.WELL:
            for kind in (_status.UNAVAILABLE, _status.UNAUTHORIZED):
                self._teller.over(kind, f"{self._name} takes events again.")
        elif not self._teller.knows(status.state):
            waiting = count(
                self._writer.waiting(),
                " of this process waits",
                " of this process wait",
            )
            says = (
                "does not accept the credentials"
                if status.state == _status.UNAUTHORIZED
                else "takes no events now"
            )
            self._teller.tell(
                status.state,
                f"{self._name} {says} ({status.reason}): {waiting} in {folder} "
                "to be sent as soon as it does, and nothing else is held up.",
            )
        if status.refused:
            self._tell_refused(status.refusal, status.refused)
        if status.given_up:
            self._teller.tell(
                "age",
                f"{count(status.given_up, ' was', ' were')} given up after more than "
                f"{self._policy.max_age / 86400:g} days without {self._name}.",
            )
        if status.damaged:
            self._teller.tell(
                "damaged",
                f"{count(status.damaged)} in {folder} cannot be read and thus not be sent.",
            )

    def _tell_refused(self, reason: str, events: int = 1) -> None:
        where = f"{self._writer.folder}" if self._writer.folder else "no file"
        self._teller.tell(
            "refused",
            f"{self._name} refuses {count(events)} for good ({reason}): kept in {where}, not sent; "
            "the others go on.",
        )

    def _tell_full(self) -> None:
        if not self._teller.knows("full"):
            self._teller.tell(
                "full",
                f"The outbox of {self._name} in {self._writer.folder} has reached its limit of "
                f"{self._policy.max_bytes:,} bytes with {count(self._writer.waiting())} of this "
                "process waiting: new events are lost until some are delivered.",
            )

    def _flush(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        called = time.time()
        mark = self._writer.mark()
        folder = self._writer.folder
        if folder is not None and mark:
            if self._launcher is not None:
                self._launcher.ensure()
            hurry(folder)
        self._memory.hurry()
        while mark or self._memory:
            mark = [(path, end) for path, end in mark if acknowledged(path) < end]
            if not mark and not self._memory:
                break
            position = (mark[0][0], acknowledged(mark[0][0])) if mark else None
            if position is not None and position == self._in_vain:
                break
            if time.monotonic() >= deadline:
                self._in_vain = position
                break
            status = _status.read(folder) if folder and mark else self._memory.status
            if _status.is_failing(status, max(self._begun, called - _JUST_FAILED)):
                break
            time.sleep(0.005)
        return self._writer.waiting() + len(self._memory)

    def _tell_left(self, left: int) -> None:
        kept, lost = left - len(self._memory), len(self._memory) + self._not_taken
        if kept:
            self._teller.tell(
                "left",
                f"{count(kept, ' waits', ' wait')} for {self._name} in {self._writer.folder}, to be sent "
                "in the background, by the next process, or by `mlflow-databand outbox ship`.",
            )
        if lost:
            self._teller.tell(
                "lost",
                f"{count(lost, ' is', ' are')} lost with this process: {self._name} did not take "
                "them in time, and the disk had no room.",
            )


_living: "weakref.WeakSet[Outbox]" = weakref.WeakSet()


def _after_fork() -> None:
    for outbox in list(_living):
        outbox._writer.close_inherited()
        if outbox._launcher is not None:
            outbox._launcher.close_inherited()
        outbox._begin()


def _at_exit() -> None:
    """Give delivery a moment: in a container the shipper ends with this process."""
    started = time.monotonic()
    for outbox in list(_living):
        policy = outbox._policy
        left = outbox.flush(max(0.0, started + policy.exit_timeout - time.monotonic()))
        outbox._tell_left(left)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
