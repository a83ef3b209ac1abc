"""The common parts of all recorders: the event log, and functions that never fail the call that they record."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mlflow_connections.secrets import get_logger
from mlflow_connections_events._proxy import Arguments, OnSuccess, call_then
from mlflow_connections_outbox import Event

logger = get_logger(__name__)

Record = Callable[[Arguments, Any], None]
"""Records an accepted call, given its arguments by name and its result."""


class EventLog(Protocol):
    """The part of an outbox that a recorder uses."""

    def append(self, event: Event, /) -> object:
        """Keep an event. Never raises."""

    def flush(self, timeout: float, /) -> int:
        """Wait, at most so many seconds, until all events are delivered."""


def recording(
    enabled: Callable[[], bool],
) -> Callable[[Record], OnSuccess]:
    """Return a function that makes recording functions safe for the calls that they record.

    They do nothing while `enabled` returns false, and never raise: recording must not fail the
    recorded call. One warning is enough for all of them, or a defect would fill a training's log.
    """
    has_failed = False

    def never_raise(record: Record) -> OnSuccess:
        def on_success(arguments: Callable[[], Arguments], result: Any) -> None:
            nonlocal has_failed
            try:
                if enabled():
                    record(arguments(), result)
            except Exception:
                if not has_failed:
                    has_failed = True
                    logger.warning(
                        "A call that MLflow accepted could not be copied; MLflow has it. This is a "
                        "defect of mlflow-connections-events, please report it.",
                        exc_info=True,
                    )

        return on_success

    return never_raise


def recorded_methods(
    store: Any, records: Mapping[str, Record], never_raise: Callable[[Record], OnSuccess]
) -> dict[str, Callable[..., Any]]:
    """Return the recording function for each recorded method of a store, by name.

    Args:
        store: The store whose results are passed to the caller.
        records: The function that records the calls of each method.
        never_raise: Makes such a function safe for the call.
    """
    return {
        name: call_then(method, never_raise(record))
        for name, record in records.items()
        if (method := getattr(store, name, None)) is not None
    }
