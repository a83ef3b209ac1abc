"""Telling the user of a fault: once, in one sentence."""

import logging
import time

logger = logging.getLogger("mlflow_connections_databand.outbox")

_TOLD_AGAIN_AFTER = 600.0


class Teller:
    """Logs a warning for each kind of fault, and not again before it is over and ten minutes old."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}
        self._over: set[str] = set()

    def knows(self, kind: str) -> bool:
        """Tell whether the user was told of a kind of fault already."""
        told = self._told.get(kind)
        if told is None:
            return False
        return kind not in self._over or time.monotonic() < told + _TOLD_AGAIN_AFTER

    def tell(self, kind: str, sentence: str) -> None:
        """Warn, unless the user knows."""
        if not self.knows(kind):
            self._told[kind] = time.monotonic()
            self._over.discard(kind)
            logger.warning("%s", sentence)

    def over(self, kind: str, sentence: str) -> None:
        """Note that a fault is over; one line for those who listen, if they were told of it."""
        if kind in self._told and kind not in self._over:
            self._over.add(kind)
            logger.info("%s", sentence)


def count(events: int, one: str = "", many: str = "") -> str:
    """Give a number of events in words, with what follows for one and for many."""
    return f"1 event{one}" if events == 1 else f"{events:,} events{many}"
