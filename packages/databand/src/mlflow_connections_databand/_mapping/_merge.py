"""Merging requests: few requests, in an order that keeps each run's own."""

from collections.abc import Iterable
from typing import Any, NamedTuple

MAX_ROWS = 1_000
"""The maximum number of rows in a merged request; 1,000 metrics are about 300 KB of JSON, 16 KB compressed."""

PARAMS = "task_run_params"
"""The list of a request with params: the rows of its one task run."""


class TrackerCall(NamedTuple):
    """A request of the tracking API.

    Attributes:
        endpoint: The name below `/api/v1/tracking/`.
        body: The JSON to send.
        runs: The MLflow runs that it concerns.
        parts: The parts of events in it: the event's position in the batch, and the number of the
            part within the event.
        rows: The name of the list in the body that another request's rows may join; empty if none.
        is_barrier: Whether the runs' other requests may not move across it: announcements and
            states.
    """

    endpoint: str
    body: dict[str, Any]
    runs: frozenset[str]
    parts: frozenset[tuple[int, int]]
    rows: str = ""
    is_barrier: bool = False


def merged(calls: Iterable[TrackerCall]) -> list[TrackerCall]:
    """Return the calls, with calls of one kind joined if this changes no run's order.

    Between two barriers of a run its metrics keep their order, and so do its datasets and its
    artifacts; a metric may be sent before an earlier artifact.
    """
    result: list[TrackerCall] = []
    latest: dict[str, int] = {}
    barriers: dict[str, int] = {}
    for call in calls:
        bounds = latest if call.is_barrier else barriers
        earliest = max((bounds.get(run, 0) for run in call.runs), default=0)
        place = _place(result, call, earliest)
        if place is None:
            place = len(result)
            result.append(call)
        else:
            result[place] = _joined(result[place], call)
        for run in call.runs:
            latest[run] = max(place, latest.get(run, 0))
            if call.is_barrier:
                barriers[run] = place
    return result


def _place(result: list[TrackerCall], call: TrackerCall, earliest: int) -> int | None:
    """Return the position of the latest request of the same kind, or None if it is full or too early."""
    for place in range(len(result) - 1, earliest - 1, -1):
        if _kind(result[place]) == _kind(call):
            size = len(_rows(result[place])) + len(_rows(call))
            return place if call.rows and size <= MAX_ROWS else None
    return None


def _kind(call: TrackerCall) -> tuple[str, ...]:
    # Params are part of the record of their task, so only those of one task join.
    return (call.endpoint, *sorted(call.runs)) if call.rows == PARAMS else (call.endpoint,)


def _rows(call: TrackerCall) -> list[Any]:
    holder = call.body
    if call.rows == PARAMS:
        holder = call.body["task_runs_info"]["task_runs"][0]
    rows: list[Any] = holder[call.rows] if call.rows else []
    return rows


def _joined(first: TrackerCall, second: TrackerCall) -> TrackerCall:
    # A call belongs to one batch, so its body may grow.
    _rows(first).extend(_rows(second))
    return first._replace(runs=first.runs | second.runs, parts=first.parts | second.parts)
