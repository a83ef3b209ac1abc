"""The limits and timings of an outbox, and those that a user may set."""

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
        max_bytes: The bytes of waiting events in a spool. Beyond it new events are set aside outside
            this limit, with a warning, and sent in their turn.
        min_free: The free bytes that events beyond `max_bytes` leave on the disk. Where there are
            fewer, these events wait in memory.
        max_age: The age of events at which they are set aside, once sending them has failed again.
        sync: How often the shipper forces written events to the disk, which is what a power cut may
            take. 0 leaves it to the operating system. A killed process loses nothing either way.
        sync_events: Whether every `append` forces its event to the disk before it returns.
        shipper: `process`, or `thread` where no process can be started; `none` where nothing is delivered
            before somebody asks for it.
        max_memory: Bytes of events that may wait in memory while the disk takes none.
        max_dead_letters: The bytes of rejected events beyond which the user is warned. None is
            dropped: a dead letter takes the room that its segment gives back.
        dead_letter_file: The size at which dead letters go on to their next file.
        max_aside: Bytes of events that may be set aside for their age. Beyond it they stay.
        segment_bytes: The size at which a process goes on to its next segment.
        batch: The number of events that one send takes at most.
        batch_bytes: The bytes of events at which no more are read for it; one event may have more.
        linger: How long a batch may wait to grow.
        poll: How often the shipper looks for a process that waits in `flush`; it looks for events
            four times in a `linger`, and not more often than this.
        backoff: The first pause after a failure. It doubles with each further failure.
        max_backoff: The longest pause, unless the destination asks for a longer one.
        patience: How long the shipper of a failing destination outlives the last writer.
        idle: How long a shipper without work stays.
        watchdog: The time without progress after which a send is abandoned, with its process.
        exit_timeout: How long the end of a process waits for delivery.
        silence: How long another machine's segment must not have been written before this one takes
            it over, on file systems that hide the locks of other machines.
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
        """Read the settings in the environment. A value that is not understood keeps its default.

        Nothing is raised: user code must not fail because of a second destination.

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
