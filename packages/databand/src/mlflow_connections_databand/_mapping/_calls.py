"""Requests, and merging them: few requests, in an order that keeps each run's own."""

from collections.abc import Iterable
from typing import Any, NamedTuple

MOST_ROWS = 1_000
"""Rows of one merged request; 1,000 metrics are about 300 KB of JSON, 16 KB compressed."""


class Call(NamedTuple):
    """A request of the tracking API.

    Attributes:
        endpoint: The name below `/api/v1/tracking/`.
        body: What is sent.
        runs: The MLflow runs that it is about; their requests stay in order.
        events: The positions in the batch of the events that it comes from.
        rows: The name of the list in the body that another request's rows may join; empty if none.
    """

    endpoint: str
    body: dict[str, Any]
    runs: frozenset[str]
    events: frozenset[int]
    rows: str = ""


def merged(calls: Iterable[Call]) -> list[Call]:
    """Join requests of one kind wherever no run's order changes by it."""
    result: list[Call] = []
    latest: dict[str, int] = {}
    for call in calls:
        earliest = max((latest.get(run, 0) for run in call.runs), default=0)
        place = _place(result, call, earliest)
        if place is None:
            place = len(result)
            result.append(call)
        else:
            result[place] = _joined(result[place], call)
        latest.update(dict.fromkeys(call.runs, place))
    return result


def _place(result: list[Call], call: Call, earliest: int) -> int | None:
    if not call.rows:
        return None
    for place in range(earliest, len(result)):
        other = result[place]
        if (
            (other.endpoint, other.rows) == (call.endpoint, call.rows)
            and len(other.body[call.rows]) + len(call.body[call.rows]) <= MOST_ROWS
        ):
            return place
    return None


def _joined(first: Call, second: Call) -> Call:
    return first._replace(
        body={first.rows: [*first.body[first.rows], *second.body[first.rows]]},
        runs=first.runs | second.runs,
        events=first.events | second.events,
    )
