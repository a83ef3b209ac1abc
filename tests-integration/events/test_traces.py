"""Traces: spans, tags, links and assessments arrive on another server, each once."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mlflow_connections_events.files import SourceFiles
from mlflow_connections_events.replay import ReplaySink
from mlflow_connections_events.testing import describe, differences
from mlflow_connections_outbox import Batch, Event
from mlflow_connections_sandbox import MlflowServer

LogTraces = Callable[[str], None]


def replay(events: Sequence[Event], target: str, state: Path, source: str) -> None:
    """Deliver events, and fail the test if one is rejected."""
    # As in the shipper's process: MLflow 2.22 resolves proxied artifacts by this URI.
    mlflow.set_tracking_uri(target)
    sink = ReplaySink(target, {}, state, files=SourceFiles(source))
    rejected: list[str] = []
    batch = Batch(events, on_reject=lambda _, why: rejected.append(why))
    sink.send(batch)
    assert rejected == []
    assert batch.accepted == len(batch)


@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=pytest.mark.slow), "server"])
def test_traces_arrive_complete_and_once(
    kind: str,
    recorded: Any,
    log_traces: LogTraces,
    mlflow_server: MlflowServer,
    tmp_path: Path,
) -> None:
    """Traces with all their parts are equal, also after a second replay without a state."""
    name = f"traces {tmp_path.name}"
    log_traces(name)
    source = f"sqlite:///{tmp_path / 'source.db'}"
    target = mlflow_server.url if kind == "server" else f"sqlite:///{tmp_path / 'target.db'}"
    replay(recorded.events, target, tmp_path / "state", source)
    expected = describe(source, experiments=[name])
    assert differences(expected, describe(target, experiments=[name])) == []
    replay(recorded.events, target, tmp_path / "other", source)
    arrived = describe(target, experiments=[name])
    # MLflow 3.5 rounds a duration again when spans are logged again.
    rounded = ["traces/*/duration"] if mlflow.__version__.startswith("3.5.") else []
    assert differences(expected, arrived, ignore=rounded) == []
    assert sorted(arrived["traces"]) == [f"{name}/{each}" for each in ("alone", "fail", "why")]
    delete_the_oldest(f"recorded://{tmp_path}", name, 2)
    replay([recorded.events[-1]], target, tmp_path / "state", source)
    assert sorted(describe(target, experiments=[name])["traces"]) == [f"{name}/fail"]


def delete_the_oldest(tracking_uri: str, experiment: str, count: int) -> None:
    """Delete traces by their age."""
    mlflow.set_tracking_uri(tracking_uri)
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    now = time.time_ns() // 1_000_000
    client.delete_traces(found.experiment_id, max_timestamp_millis=now, max_traces=count)
