"""The store behind a composite URI."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from mlflow_connections_databand import _composite
from mlflow_connections_outbox import Event

URI = "dbnd://databand?duplicate_tracking_to=http%3A%2F%2Fm"


class Store:
    """A tracking store with one run."""

    def get_run(self, run_id: str) -> Any:
        """Return the run."""
        info = SimpleNamespace(
            run_id=run_id,
            experiment_id="1",
            run_name="run",
            user_id="me",
            status="RUNNING",
            start_time=1,
            end_time=None,
            lifecycle_stage="active",
            artifact_uri="/nowhere",
        )
        return SimpleNamespace(info=info, data=SimpleNamespace(params={}, tags={}))

    def get_experiment(self, experiment_id: str) -> Any:
        """Return its experiment."""
        return SimpleNamespace(experiment_id=experiment_id, name="wine")

    def delete_tag(self, run_id: str, key: str) -> None:
        """Accept."""


class Log:
    """The kinds of events in an outbox."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def append(self, event: Event) -> None:
        """Note an event."""
        self.kinds.append(event.kind)


def test_a_store_follows_the_folder_of_the_outboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow keeps a store, and the variable may change: later events go to the new folder, with their run."""
    logs = {"a": Log(), "b": Log()}
    monkeypatch.setattr(
        _composite, "shared_outbox", lambda *_: logs[os.environ["MLFLOW_CONNECTIONS_OUTBOX_DIR"]]
    )
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", "a")
    store = _composite.parse(URI).wrap_tracking(Store, lambda: True)
    store.delete_tag("r1", "x")
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", "b")
    store.delete_tag("r1", "x")
    assert [log.kinds for log in logs.values()] == [["run_started", "tag_deleted"]] * 2
