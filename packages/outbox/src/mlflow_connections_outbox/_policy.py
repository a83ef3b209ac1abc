"""The limits and timings of an outbox, and the few that a user may set."""

import math
import os
from collections.abc import Mapping
from typing import Literal, NamedTuple

MAX_BYTES = "MLFLOW_CONNECTIONS_OUTBOX_MAX_BYTES"
MAX_AGE_DAYS = "MLFLOW_CONNECTIONS_OUTBOX_MAX_AGE_DAYS"
SYNC_MS = "MLFLOW_CONNECTIONS_OUTBOX_SYNC_MS"
SHIPPER = "MLFLOW_CONNECTIONS_OUTBOX_SHIPPER"


class Policy(NamedTuple):
    """When an outbox gives up, and how it goes about its work. Times are in seconds.

    Attributes:
        max_bytes: What a spool may take on the disk. Beyond it new events are not taken; what was
            taken is never given up for it, so that what arrives of a run has no hole in front.
        max_age: How old events may grow before they are given up, once sending them has just
            failed again.
        sync: How often the shipper forces what was written to the disk: what a power cut may take.
            0 leaves it to the operating system. A killed process loses nothing either way.
        shipper: `process`, or `thread` where a process cannot be started.
        max_memory: Bytes that may wait in memory while the disk takes nothing.
        segment_bytes: Where a process goes on to its next file.
        batch: How many events one send takes at most.
        linger: How long a batch may wait to grow.
        poll: How often the shipper looks whether somebody is in a hurry; for events it looks four
            times in a `linger`, and not more often than this.
        backoff: The first pause after a failure; it doubles with each further one.
        max_backoff: The longest pause, unless the destination asks for a longer one.
        patience: How long the shipper of a failing destination outlives the last writer.
        idle: How long a shipper with nothing to do stays.
        watchdog: When a send that does not return is given up, together with its process.
        exit_timeout: How long the end of a process waits for delivery.
    """

    max_bytes: int = 1 << 30
    max_age: float = 30 * 86400.0
    sync: float = 0.2
    shipper: Literal["process", "thread"] = "process"
    max_memory: int = 64 << 20
    segment_bytes: int = 4 << 20
    batch: int = 500
    linger: float = 0.5
    poll: float = 0.05
    backoff: float = 0.5
    max_backoff: float = 30.0
    patience: float = 60.0
    idle: float = 30.0
    watchdog: float = 300.0
    exit_timeout: float = 5.0

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> "tuple[Policy, list[str]]":
        """Read what the environment sets; what cannot be read is named and left at its default.

        Nothing is raised, for user code must not fail because of a second destination.

        Returns:
            The policy, and a sentence for each variable that was not understood.
        """
        environ = os.environ if environ is None else environ
        wrong: list[str] = []

        def number(name: str, unit: float, default: float) -> float:
            text = environ.get(name, "").strip()
            try:
                value = float(text) * unit if text else default
                if 0 <= value < math.inf:
                    return value
            except ValueError:
                pass
            wrong.append(f"{name} must be a number of 0 or more, not {text!r}; it is ignored.")
            return default

        default = cls()
        shipper = environ.get(SHIPPER, "").strip() or default.shipper
        if shipper not in {"process", "thread"}:
            wrong.append(
                f"{SHIPPER} must be 'process' or 'thread', not {shipper!r}; it is ignored."
            )
        policy = default._replace(
            max_bytes=int(number(MAX_BYTES, 1, default.max_bytes)),
            max_age=number(MAX_AGE_DAYS, 86400, default.max_age),
            sync=number(SYNC_MS, 0.001, default.sync),
            shipper="thread" if shipper == "thread" else "process",
        )
        return policy, wrong
