"""A tracking store and outboxes without a server, to see which outbox the events of a product go to."""

import os
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mlflow_connections_outbox import Event


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


def kinds_by_folder(
    composite: ModuleType, uri: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[str]]:
    """Return the kinds of the events in two folders, where a store is called once for each.

    Args:
        composite: The module of a product that parses its URIs.
        uri: A URI of the product.
        monkeypatch: Sets the folder in the environment.
    """
    logs = {"a": Log(), "b": Log()}
    monkeypatch.setattr(
        composite, "shared_outbox", lambda *_: logs[os.environ["MLFLOW_CONNECTIONS_OUTBOX_DIR"]]
    )
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", "a")
    store = composite.parse(uri).wrap_tracking(Store, lambda: True)
    store.delete_tag("r1", "x")
    monkeypatch.setenv("MLFLOW_CONNECTIONS_OUTBOX_DIR", "b")
    store.delete_tag("r1", "x")
    return {folder: log.kinds for folder, log in logs.items()}
