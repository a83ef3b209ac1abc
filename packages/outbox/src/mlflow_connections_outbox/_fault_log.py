"""Telling the user of a fault: once, in one sentence, with the count of what waits."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from mlflow_connections.secrets import mask

from . import _status
from ._interface import Destination
from ._policy import Policy
from ._status import Status

logger = logging.getLogger("mlflow_connections_outbox")

_TOLD_AGAIN_AFTER = 600.0


class FaultLog:
    """Warns of each kind of fault, and not again before it is over and ten minutes old.

    Args:
        destination: Whose outbox it is.
        policy: The limits that are told.
    """

    def __init__(self, destination: Destination, policy: Policy) -> None:
        self._name = f"{destination.name} at {destination.url}"
        self._policy = policy
        self._told: dict[str, float] = {}
        self._over: set[str] = set()

    def wrong_setting(self, sentence: str) -> None:
        """A variable of the environment was not understood."""
        self._warn(sentence, lambda: sentence)

    def not_kept(self, what: str, error: Exception) -> None:
        """An event could not be kept, or not be waited for."""
        words = mask(f"{type(error).__name__}: {error}")
        self._warn(what, lambda: f"{what} {self._name} failed ({words}); your own work goes on.")

    def no_disk(self, error: Exception) -> None:
        """The spool cannot be written."""
        self._warn(
            "disk",
            lambda: (
                f"The outbox of {self._name} cannot be written ({error}): events are sent from "
                "memory meanwhile, and those that wait there are lost should this process be killed."
            ),
        )

    def no_memory(self, waiting: int) -> None:
        """Neither the disk nor memory takes more."""
        self._warn(
            "memory",
            lambda: (
                f"The disk takes no events for {self._name}, and memory holds {count(waiting)} "
                "already: further ones are lost."
            ),
        )

    def full(self, folder: Path | None, waiting: Callable[[], int]) -> None:
        """The spool has reached its limit."""
        self._warn(
            "full",
            lambda: (
                f"The outbox of {self._name} in {folder} has reached its limit of "
                f"{self._policy.max_bytes:,} bytes with {count(waiting())} of this process waiting: "
                "new events are lost until some are delivered."
            ),
        )

    def status(self, folder: Path, status: Status, waiting: Callable[[], int]) -> None:
        """What the shipper reports."""
        if status.state == _status.OK:
            self._end(_status.UNAVAILABLE)
            self._end(_status.UNAUTHORIZED)
        else:
            self._failing(folder, status, waiting)
        if status.refused:
            self.refused(status.refusal, status.refused, f"kept in {folder / 'dead_letters.jsonl'}")
        if status.expired:
            self._warn(
                "age",
                lambda: (
                    f"{count(status.expired, ' was', ' were')} given up after more than "
                    f"{self._policy.max_age / 86400:g} days without {self._name}."
                ),
            )
        if status.damaged:
            self._warn(
                "damaged",
                lambda: (
                    f"{count(status.damaged)} in {folder} cannot be read, and thus not be sent."
                ),
            )

    def refused(self, reason: str, events: int, fate: str) -> None:
        """The destination will never take some events."""
        self._warn(
            "refused",
            lambda: (
                f"{self._name} refuses {count(events)} for good ({reason}): {fate}, while the "
                "others go on."
            ),
        )

    def left(self, folder: Path | None, kept: int, lost: int) -> None:
        """The process ends."""
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
                    "take them in time, and the disk had no room."
                ),
            )

    def _failing(self, folder: Path, status: Status, waiting: Callable[[], int]) -> None:
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
        told = self._told.get(kind)
        now = time.monotonic()
        if told is None or (kind in self._over and now > told + _TOLD_AGAIN_AFTER):
            self._told[kind] = now
            self._over.discard(kind)
            logger.warning("%s", sentence())

    def _end(self, kind: str) -> None:
        if kind in self._told and kind not in self._over:
            self._over.add(kind)
            logger.info("%s takes events again.", self._name)


def count(events: int, one: str = "", many: str = "") -> str:
    """Give a number of events in words, with what follows for one and for many."""
    return f"1 event{one}" if events == 1 else f"{events:,} events{many}"
