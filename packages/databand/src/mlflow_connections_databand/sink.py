"""The sink: batches of events become requests of Databand's tracking API.

The shipper imports this module in a process of its own; it needs neither MLflow nor dbnd.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from mlflow_connections_outbox import Batch, Destination, Rejected

from ._client import Client
from ._mapping import Call, calls, merged

SECONDS = 30.0
"""How long one request may take."""


def open_sink(destination: Destination, environ: Mapping[str, str], _: Path) -> "Tracker":
    """Open the sink of a Databand. Its credentials come from the environment."""
    return Tracker(Client(destination.url, environ))


class Tracker:
    """Delivers events to one Databand. It keeps nothing between batches: all IDs are derived."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def send(self, batch: Batch) -> None:
        """Deliver a batch in order, and accept what each request completes.

        Events that Databand rejects, or that cannot be mapped, are rejected one by one.

        Raises:
            Unavailable: Not now.
            Unauthorized: Not with these credentials.
        """
        requests = merged(_mapped(batch))
        waiting = [request.events for request in requests]
        for request in requests:
            self._post(batch, request)
            waiting.pop(0)
            batch.accept(min((min(events) for events in waiting), default=len(batch)))
        batch.accept(len(batch))

    def _post(self, batch: Batch, request: Call) -> None:
        """Post a request. If it is rejected, post its parts one by one to find the faulty events."""
        try:
            self._client.post(f"tracking/{request.endpoint}", request.body, SECONDS)
        except Rejected as rejection:
            if len(request.events) == 1:
                (position,) = request.events
                batch.reject(position, str(rejection))
                return
            # Joining extended the first body in place, so the parts are mapped anew.
            for position in sorted(request.events):
                for part in _calls_of(batch, position):
                    if (part.endpoint, part.rows) == (request.endpoint, request.rows):
                        self._post(batch, part)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _mapped(batch: Batch) -> Iterator[Call]:
    for position in range(len(batch)):
        yield from _calls_of(batch, position)


def _calls_of(batch: Batch, position: int) -> list[Call]:
    try:
        return [call._replace(events=frozenset({position})) for call in calls([batch[position]])]
    except Rejected as rejection:
        batch.reject(position, str(rejection))
        return []
