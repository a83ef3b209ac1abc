"""Warnings: one sentence per kind of fault, once, with the number of waiting events."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mlflow_connections.secrets import get_logger, mask

from . import _dead_letters, _status
from ._files import OVERFLOW
from ._interface import Destination
from ._policy import Policy
from ._status import Status

logger = get_logger("mlflow_connections_outbox")

_WARN_AGAIN_AFTER = 600.0


class FaultLog:
    """Warns of each kind of fault, and again only if it was over and ten minutes have passed.

    Args:
        destination: The destination of the outbox.
        policy: The limits that the warnings name.
        on_outage: Called instead of a warning when the destination takes no events, with True and
            the reason, and when it takes them again, with False.
    """

    def __init__(
        self,
        destination: Destination,
        policy: Policy,
        on_outage: Callable[[bool, str], None] | None = None,
    ) -> None:
        self._on_outage = on_outage
        self._name = f"{destination.name} at {destination.url}"
        self._policy = policy
        self._warned: dict[str, float] = {}
        self._over: set[str] = set()

    def wrong_setting(self, sentence: str) -> None:
        """Warn of an invalid environment variable."""
        self._warn(sentence, lambda: sentence)

    def not_kept(self, what: str, error: Exception) -> None:
        """Warn that an event could not be kept, or that a flush failed."""
        words = mask(f"{type(error).__name__}: {error}")
        self._warn(what, lambda: f"{what} {self._name} failed ({words}); your own work goes on.")

    def no_disk(self, error: Exception) -> None:
        """Warn that the spool cannot be written."""
        words = error if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        self._warn(
            "disk",
            lambda: (
                f"The outbox of {self._name} cannot be written ({words}): events are sent from "
                "memory meanwhile, and those that wait there are lost if this process is killed."
            ),
        )

    def no_sync(self, error: OSError) -> None:
        """Warn that the disk reported an error for an event that was already written."""
        self._warn(
            "sync",
            lambda: (
                f"The disk failed to make an event for {self._name} durable ({error}), so a power cut "
                "may lose it. Check the disk."
            ),
        )

    def removed(self, folder: Path | None, events: int) -> None:
        """Warn that the spool was removed under this process."""
        self._warn(
            "removed",
            lambda: (
                f"The outbox of {self._name} in {folder} was removed with up to "
                f"{count(events)} of this process that were not delivered; it is created again."
            ),
        )

    def no_memory(self, waiting: int) -> None:
        """Warn that neither the disk nor memory takes more."""
        self._warn(
            "memory",
            lambda: (
                f"The disk takes no events for {self._name}, and memory holds {count(waiting)} "
                "already: further ones are lost until some are delivered, and counted."
            ),
        )

    def full(self, folder: Path | None, waiting: Callable[[], int]) -> None:
        """Warn that the spool has reached its limit."""
        self._warn(
            "full",
            lambda: (
                f"The outbox of {self._name} in {folder} has reached its limit of "
                f"{self._policy.max_bytes:,} bytes with {count(waiting())} of this process waiting: "
                f"further events are set aside in its folder {OVERFLOW}, outside the limit, and "
                "sent in their turn."
            ),
        )

    def full_no_more(self) -> None:
        """Record that the spool has room again."""
        self._end("full")

    def no_room(self, folder: Path | None) -> None:
        """Warn that a spool at its limit cannot continue beyond it either."""
        self._warn(
            "room",
            lambda: (
                f"The outbox of {self._name} in {folder} has reached its limit, and its disk has "
                f"less than {self._policy.min_free:,} bytes free: events are sent from memory "
                "meanwhile, and those that wait there are lost if this process is killed. Free "
                "some space."
            ),
        )

    def _many_dead_letters(self, folder: Path, new: int) -> None:
        with suppress(OSError):
            size = _dead_letters.size(folder)
            if size > self._policy.max_dead_letters:
                self._warn(
                    "dead letters",
                    lambda: (
                        f"Rejected events for {self._name} take {size:,} bytes in {folder}, "
                        f"including {count(new)} of the current shipper. None is "
                        "dropped: `mlflow-connections outbox retry` sends them again, and "
                        "`mlflow-connections outbox drop --rejected` gives them up."
                    ),
                )

    def status(self, folder: Path, status: Status, waiting: Callable[[], int]) -> None:
        """Warn of faults in the shipper's report."""
        if status.state == _status.OK:
            if self._on_outage is not None:
                self._on_outage(False, "")
            self._end(_status.UNAVAILABLE)
            self._end(_status.UNAUTHORIZED)
        elif status.state != _status.WAITING:
            self._failing(folder, status, waiting)
        if status.rejected:
            self.rejected(
                status.rejection, status.rejected, f"kept in {folder / _dead_letters.FILE}"
            )
            self._many_dead_letters(folder, status.rejected)
        if status.expired:
            self._warn(
                "age",
                lambda: (
                    f"{count(status.expired, ' was', ' were')} set aside after more than "
                    f"{self._policy.max_age / 86400:g} days without {self._name}; "
                    "`mlflow-connections outbox retry` brings them back."
                ),
            )
        if status.damaged:
            self._warn(
                "damaged",
                lambda: f"{count(status.damaged)} in {folder} cannot be read and will not be sent.",
            )

    def rejected(self, reason: str, events: int, fate: str) -> None:
        """Warn that the destination will never accept some events."""
        self._warn(
            "rejected",
            lambda: (
                f"{self._name} rejects {count(events)} for good ({reason}): {fate}, while the "
                "others go on."
            ),
        )

    def left(self, folder: Path | None, kept: int, lost: int) -> None:
        """Warn of the events that the end of the process leaves behind."""
        if kept:
            self._warn(
                "left",
                lambda: (
                    f"{count(kept, ' waits', ' wait')} for {self._name} in {folder}, to be sent in "
                    "the background, by the next process, or by `mlflow-connections outbox ship`."
                ),
            )
        if lost:
            self._warn(
                "lost",
                lambda: (
                    f"{count(lost, ' is', ' are')} lost with this process: {self._name} did not "
                    "take them in time, and they could not be written to the disk."
                ),
            )

    def _failing(self, folder: Path, status: Status, waiting: Callable[[], int]) -> None:
        if status.state == _status.UNAVAILABLE and self._on_outage is not None:
            self._on_outage(True, status.reason)
            return
        says = (
            "does not accept the credentials"
            if status.state == _status.UNAUTHORIZED
            else "takes no events now"
        )
        self._warn(
            status.state,
            lambda: (
                f"{self._name} {says} ({status.reason}): "
                f"{count(waiting(), ' of this process waits', ' of this process wait')} in {folder} "
                "to be sent as soon as it does, and nothing else is held up."
            ),
        )

    def _warn(self, kind: str, sentence: Callable[[], str]) -> None:
        warned = self._warned.get(kind)
        now = time.monotonic()
        if warned is None or (kind in self._over and now > warned + _WARN_AGAIN_AFTER):
            self._warned[kind] = now
            self._over.discard(kind)
            logger.warning("%s", sentence())

    def _end(self, kind: str) -> None:
        if kind in self._warned and kind not in self._over:
            self._over.add(kind)
            logger.warning("%s takes events again; those that waited are sent now.", self._name)


def count(events: int, one: str = "", many: str = "") -> str:
    """Return a number of events in words, with the singular or plural text that follows."""
    return f"1 event{one}" if events == 1 else f"{events:,} events{many}"
