"""Duplicating: a store that answers as before, and whose accepted calls become events.

    def wrap_tracking(self, build, enabled):
        log = outbox_in_force(lambda: shared_outbox(destination, secrets))
        return duplicate(build(), log, enabled=enabled)

`log` is anything with `append` and `flush`, such as an outbox of mlflow-connections-outbox, or a function that
returns the one in force.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ._proxy import proxy
from ._recording._artifacts import record_artifacts
from ._recording._calls import EventLog
from ._recording._recorder import Recorder
from ._recording._registry import RegistryRecorder
from ._recording._traces import TraceRecorder
from .entities import Redact, keep
from .vocabulary import KINDS

__all__ = ["EventLog", "Redact", "duplicate", "duplicate_registry"]


def duplicate(
    store: Any,
    log: EventLog | Callable[[], EventLog],
    *,
    redact: Redact = keep,
    extra: Callable[[], Mapping[str, str] | None] = lambda: None,
    enabled: Callable[[], bool] = lambda: True,
    kinds: frozenset[str] = KINDS,
) -> Any:
    """Return a tracking store that behaves as the given one and logs an event of each accepted call.

    Args:
        store: Any tracking store of MLflow's. Its results and exceptions are passed to the caller.
        log: Receives the events; or a function that returns the log that receives the next one.
        redact: Receives the name and the value of each param, tag and URI and returns the value for
            the event. By default events are faithful and contain secrets, so they must stay
            private.
        extra: Called when an outermost run is announced; its result is in every event's run
            context, for a product that attaches runs to its own objects.
        enabled: Called before each event; nothing is recorded while it returns false.
        kinds: The kinds of events that the destination uses, from `vocabulary`.
    """
    recorder = Recorder(
        store, _in_force(log), redact=redact, extra=extra, enabled=enabled, kinds=kinds
    )
    record_artifacts()
    return proxy(store, recorder.methods() | TraceRecorder(recorder).methods())


def duplicate_registry(
    store: Any,
    log: EventLog | Callable[[], EventLog],
    *,
    redact: Redact = keep,
    enabled: Callable[[], bool] = lambda: True,
) -> Any:
    """Return a model registry store that behaves as the given one and logs an event of each accepted call.

    Args:
        store: Any model registry store of MLflow's.
        log: Receives the events; or a function that returns the log that receives the next one.
        redact: As for `duplicate`.
        enabled: As for `duplicate`.
    """
    return proxy(store, RegistryRecorder(store, _in_force(log), redact, enabled).methods())


def _in_force(log: EventLog | Callable[[], EventLog]) -> Callable[[], EventLog]:
    return log if callable(log) else lambda: log
