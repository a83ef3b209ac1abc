"""Warnings: one sentence when a destination fails, and one when it is back."""

from pathlib import Path

import pytest

from mlflow_connections_outbox import Destination, Policy, _status
from mlflow_connections_outbox._fault_log import FaultLog
from mlflow_connections_outbox._status import Status


def test_an_outage_is_two_sentences(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Repeated reports of one state add no warning."""
    faults = FaultLog(Destination("copy", "http://c", "m:f"), Policy())
    away, back = Status(_status.UNAVAILABLE, reason="down"), Status(_status.OK)
    for status in (back, away, away, back, back):
        faults.status(tmp_path, status, lambda: 3)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("copy at http://c takes no events now (down): 3 events")
    assert second == "copy at http://c takes events again; those that waited are sent now."
