"""A spool that Databand's package wrote before the outbox was a separate distribution."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlflow_connections_outbox._files import read_destination
from mlflow_connections_outbox._spool import Spool

WRITTEN = Path(__file__).parent / "written_by_0_1"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A copy of that spool: three segments, five events delivered or rejected, a torn end."""
    (source,) = WRITTEN.glob("databand-*")
    folder = tmp_path / source.name
    shutil.copytree(source, folder)
    folder.chmod(0o700)
    return folder


def test_events_of_an_earlier_format_are_delivered(spool: Path) -> None:
    """Waiting events are read with the same IDs, in order, and leave nothing behind."""
    opened = Spool(spool)
    assert opened.try_lock()
    records = opened.collect(1000)
    expected: list[dict[str, Any]] = json.loads((WRITTEN / "waiting.json").read_text())
    # As text: NaN is not equal to itself.
    assert [json.dumps(record.event._asdict()) for record in records] == [
        json.dumps(event) for event in expected
    ]
    opened.acknowledge(records)
    assert not opened.remove_delivered()
    opened.unlock()


def test_a_destination_of_an_earlier_format_is_read(spool: Path) -> None:
    """It names a removed function; the installed package names its replacement."""
    destination = read_destination(spool)
    assert (destination.name, destination.url) == ("databand", "https://databand.example.com")
    assert destination.sink in {
        "mlflow_connections_databand.sink:open_sink",
        "mlflow_connections_databand._tracker:make_sink",  # without the package
    }
