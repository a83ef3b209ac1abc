"""The sink: batches of events become requests of Databand's tracking API.

The shipper imports this in a process of its own; it needs neither MLflow nor dbnd.
"""

import time
from collections.abc import Mapping, Sequence

from ._client import Client
from ._mapping import Call, calls, merged
from .outbox import Destination, Event, Refused, Unavailable

SECONDS = 30.0
"""How long one batch may take."""


def make_sink(destination: Destination, environ: Mapping[str, str]) -> "Tracker":
    """Make the sink of a Databand; its credentials come from the environment."""
    return Tracker(Client(destination.url, environ))


class Tracker:
    """Delivers events to one Databand. Nothing is kept between batches: all ids are derived."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def send(self, events: Sequence[Event]) -> None:
        """Deliver a batch, in order.

        Raises:
            Unavailable: Not now.
            Unauthorized: Not with these credentials.
            Refused: Databand does not accept what an event says.
        """
        deadline = time.monotonic() + SECONDS
        for call in merged(calls(events)):
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                raise Unavailable(f"Databand took longer than {SECONDS:.0f} s for one batch.")
            self._post(call, seconds)

    def _post(self, call: Call, seconds: float) -> None:
        try:
            self._client.post(f"tracking/{call.endpoint}", call.body, seconds)
        except Refused as refusal:
            # A joined request does not tell which of its events is at fault.
            positions = call.events if len(call.events) == 1 else ()
            raise Refused(str(refusal), positions) from refusal

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()
