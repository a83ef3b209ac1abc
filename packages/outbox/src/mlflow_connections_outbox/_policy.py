"""The limits and timings of an outbox, and the settings for users."""

import math
import os
from collections.abc import Mapping
from typing import Literal, NamedTuple

MAX_BYTES = "MLFLOW_CONNECTIONS_OUTBOX_MAX_BYTES"
MAX_AGE_DAYS = "MLFLOW_CONNECTIONS_OUTBOX_MAX_AGE_DAYS"
SYNC_MS = "MLFLOW_CONNECTIONS_OUTBOX_SYNC_MS"
SHIPPER = "MLFLOW_CONNECTIONS_OUTBOX_SHIPPER"
EXIT_TIMEOUT = "MLFLOW_CONNECTIONS_OUTBOX_EXIT_TIMEOUT"
MIN_FREE_BYTES = "MLFLOW_CONNECTIONS_OUTBOX_MIN_FREE_BYTES"
EVERY_EVENT = "event"


class Policy(NamedTuple):
    """The limits of an outbox and the pace of its work. Times are in seconds.

    Attributes:
        max_bytes: The maximum size of waiting events in a spool. New events beyond it are kept
            outside of this limit, with a warning, and sent in order.
        min_free: The free bytes that events beyond `max_bytes` leave on the disk. If there are
            fewer, these events wait in memory.
        max_age: The age at which events are set aside, once sending them has failed again.
        sync: The interval at which the shipper syncs written events to the disk, which is the most
            that a power failure can lose. 0 leaves it to the operating system. A killed process
            loses nothing in either case.
        sync_events: Whether every `append` syncs its event to the disk before it returns.
        shipper: `process`, or `thread` if no process can be started; `none` if nothing is delivered
            without a request.
        max_memory: The maximum size of events in memory while the disk takes none, in bytes.
        max_dead_letters: The size of rejected events beyond which the user is warned. None is
            dropped: a dead letter uses the room that its segment releases.
        dead_letter_file: The size at which dead letters continue in their next file.
        max_aside: The maximum size of events set aside for their age. Events beyond it stay.
        segment_bytes: The size at which a process continues in its next segment.
        batch: The maximum number of events in one send.
        batch_bytes: The size at which a batch is complete; a single event may be larger.
        linger: The time that a batch may wait to grow.
        poll: The interval at which the shipper checks for a process that waits in `flush`; it
            checks for events four times per `linger`, but not more often than this.
        backoff: The first pause after a failure. It doubles with each further failure.
        max_backoff: The longest pause, unless the destination requests a longer one.
        patience: The time that the shipper of a failing destination outlives the last writer.
        idle: The time that a shipper without work stays.
        watchdog: The time without progress after which a send is abandoned, with its process.
        exit_timeout: The time that the end of a process waits for delivery.
        silence: The time without a write after which another machine's segment is taken over, on
            file systems that hide the locks of other machines.
        exit_insists: Whether the end of a process waits while the destination fails, too: the user
            has set `exit_timeout`.
    """

    max_bytes: int = 1 << 30
    min_free: int = 1 << 30
    max_age: float = 30 * 86400.0
    sync: float = 0.2
    sync_events: bool = False
    shipper: Literal["process", "thread", "none"] = "process"
    max_memory: int = 64 << 20
    max_dead_letters: int = 256 << 20
    dead_letter_file: int = 16 << 20
    max_aside: int = 1 << 30
    segment_bytes: int = 4 << 20
    batch: int = 500
    batch_bytes: int = 8 << 20
    linger: float = 0.5
    poll: float = 0.05
    backoff: float = 0.5
    max_backoff: float = 30.0
    patience: float = 60.0
    idle: float = 30.0
    watchdog: float = 300.0
    exit_timeout: float = 5.0
    silence: float = 86400.0
    exit_insists: bool = False

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> "tuple[Policy, list[str]]":
        """Read the settings in the environment. An invalid value keeps its default.

        Nothing is raised: user code must not fail because of a second destination.

        Returns:
            The policy, and a sentence for each invalid variable.
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
        each = environ.get(SYNC_MS, "").strip().lower() == EVERY_EVENT
        policy = default._replace(
            max_bytes=int(number(MAX_BYTES, 1, default.max_bytes)),
            min_free=int(number(MIN_FREE_BYTES, 1, default.min_free)),
            max_age=number(MAX_AGE_DAYS, 86400, default.max_age),
            sync=default.sync if each else number(SYNC_MS, 0.001, default.sync),
            sync_events=each,
            shipper="thread" if shipper == "thread" else "process",
            exit_timeout=number(EXIT_TIMEOUT, 1, default.exit_timeout),
        )
        is_set = bool(environ.get(EXIT_TIMEOUT, "").strip())
        is_understood = not any(sentence.startswith(EXIT_TIMEOUT) for sentence in wrong)
        return policy._replace(exit_insists=is_set and is_understood), wrong
