"""Requests for events that an earlier version of this package wrote."""

import json
from pathlib import Path
from typing import Any

from mlflow_connections_databand._composite import SINK
from mlflow_connections_databand._mapping import calls, merged
from mlflow_connections_outbox import Event
from mlflow_connections_outbox._interface import sink_of

WRITTEN = Path(__file__).parent / "written_by_0_1"


def test_events_of_an_earlier_version_become_the_same_requests() -> None:
    """Events that waited on the disk during an update reach Databand unchanged."""
    events = [Event(**event) for event in json.loads((WRITTEN / "events.json").read_text())]
    requests: list[Any] = [{"endpoint": c.endpoint, "body": c.body} for c in merged(calls(events))]
    # As text: NaN is not equal to itself.
    assert json.dumps(requests, indent=1) + "\n" == (WRITTEN / "requests.json").read_text()


def test_spools_of_an_earlier_version_find_their_sink() -> None:
    """They name a removed function; an entry point leads to the current one."""
    assert sink_of("databand") == SINK
