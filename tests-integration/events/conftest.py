"""Fixtures of the tests of events: a recorded store, and a comparison of two servers."""

import math
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from mlflow_connections_events import duplicate
from mlflow_connections_outbox import Event

# Of several MLflows none knows all the attributes of another.
mlflow: Any = import_module("mlflow")

SOURCE_TAG = "mlflow_connections.source_id"


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


def described(uri: str, ids: Mapping[str, str]) -> dict[str, Any]:
    """Describe all runs of a server, each under its source's ID, by what a user can see of it."""
    # MLflow 2.22 resolves proxied artifacts by the tracking URI in force.
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    found = {}
    for experiment in client.search_experiments(ViewType.ALL):
        for run in client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL):
            source = run.data.tags.get(SOURCE_TAG, run.info.run_id)
            assert source not in found, f"run {source} is there twice"
            found[source] = _described(client, experiment.name, run, ids)
    return found


def _described(
    client: MlflowClient, experiment: str, run: Any, ids: Mapping[str, str]
) -> dict[str, Any]:
    tags = {k: v for k, v in run.data.tags.items() if k != SOURCE_TAG}
    info = run.info
    inputs = run.inputs
    models = getattr(getattr(run, "outputs", None), "model_outputs", None) or []
    return {
        "experiment": experiment,
        "info": (info.run_name, info.status, info.start_time, info.end_time, info.lifecycle_stage),
        "user": info.user_id,
        "params": run.data.params,
        "tags": {k: _named(v, ids) for k, v in tags.items()},
        "metrics": {
            key: sorted(
                (repr(m.value), m.timestamp, m.step)
                for m in client.get_metric_history(info.run_id, key)
            )
            for key in run.data.metrics
        },
        "datasets": sorted(
            (each.dataset.to_dictionary().items(), [(t.key, t.value) for t in each.tags])
            for each in (inputs.dataset_inputs if inputs else [])
        ).__repr__(),
        "models": sorted((ids.get(m.model_id, m.model_id), m.step) for m in models),
        "files": _files(client, info.run_id, ids),
    }


def _named(text: str, ids: Mapping[str, str]) -> str:
    """Return a text in which the destination's IDs are the source's again."""
    for target, source in ids.items():
        if len(target) >= 32:
            text = text.replace(target, source)
    return text


def _files(client: MlflowClient, run_id: str, ids: Mapping[str, str]) -> dict[str, str]:
    if client.get_run(run_id).info.lifecycle_stage == "deleted":
        return {}
    found: dict[str, str] = {}
    waiting: list[str | None] = [None]
    while waiting:
        for entry in client.list_artifacts(run_id, waiting.pop()):
            if entry.is_dir:
                waiting.append(entry.path)
            else:
                local = Path(client.download_artifacts(run_id, entry.path))
                found[entry.path] = _named(local.read_bytes().decode("latin-1"), ids)
    return found


Described = Callable[[str, Mapping[str, str]], dict[str, Any]]


@pytest.fixture
def describe() -> Described:
    """The description of all runs of a server."""
    return described


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
