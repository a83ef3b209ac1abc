"""Fixtures of the tests of events: a recorded store, and a training that logs widely."""

import math
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from mlflow_connections_events import duplicate
from mlflow_connections_outbox import Event

# Of several MLflows none knows all the attributes of another.
mlflow: Any = import_module("mlflow")


class MemoryLog:
    """Keeps events in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, event: Event) -> None:
        """Keep an event, with an ID as an outbox gives it."""
        self.events.append(event._replace(id=str(len(self.events))))

    def flush(self, timeout: float) -> int:
        """Return at once."""
        return 0


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryLog]:
    """A log of all that is logged to MLflow, in an SQLite store of its own: `source.db`."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking._tracking_service import utils

    monkeypatch.chdir(tmp_path)
    log = MemoryLog()
    uri = f"sqlite:///{tmp_path / 'source.db'}"

    def build(store_uri: str, artifact_uri: str | None = None) -> Any:
        return duplicate(SqlAlchemyStore(uri, str(tmp_path / "source")), log)

    registry: Any = utils._tracking_store_registry
    registry.register("recorded", build)
    mlflow.set_tracking_uri(f"recorded://{tmp_path}")
    mlflow.set_registry_uri(uri)
    yield log
    del registry._registry["recorded"]


def _train(name: str, folder: Path) -> None:
    """Log as widely as MLflow allows."""
    mlflow.set_experiment(name)
    with mlflow.start_run(run_name="parent", description="A run.") as run:
        mlflow.log_params({"alpha": 0.5, "long": "x" * 5_500})
        mlflow.log_metrics({"nan": math.nan, "big": 10**16}, step=7)
        for step in range(20):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.set_tags({"a": "1", "b": "2"})
        mlflow.delete_tag("b")
        mlflow.log_text("hello", "notes/hello.txt")
        (folder / "data" / "deep").mkdir(parents=True, exist_ok=True)
        (folder / "data" / "one.bin").write_bytes(b"\x00\xff")
        (folder / "data" / "deep" / "two.txt").write_text("two")
        mlflow.log_artifacts(str(folder / "data"), "folder")
        frame = pd.DataFrame({"x": [1.0, 2.0], "y": ["a", "b"]})
        mlflow.log_input(mlflow.data.from_pandas(frame, name="frame"), context="training")
        with mlflow.start_run(run_name="child", nested=True):
            mlflow.log_metric("loss", 1.0)
        mlflow.set_tag("id", run.info.run_id)
    with pytest.raises(ZeroDivisionError), mlflow.start_run(run_name="fails"):
        _ = 1 / 0
    client = MlflowClient()
    deleted = client.create_run(run.info.experiment_id, run_name="deleted")
    client.delete_run(deleted.info.run_id)
    client.update_run(run.info.run_id, name="renamed")


@pytest.fixture
def train() -> Callable[[str, Path], None]:
    """A training that logs as widely as MLflow allows, to an experiment of the given name."""
    return _train
