"""Fixtures of the tests of events: a recorded store, and a training that uses most of MLflow."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from mlflow_connections_events import duplicate
from mlflow_connections_events._mlflow import builders
from mlflow_connections_outbox import Event
from mlflow_connections_sandbox import MlflowServer

# No MLflow version has all attributes of another.
mlflow: Any = import_module("mlflow")
IS_MLFLOW_2 = mlflow.__version__.startswith("2.")


class MemoryLog:
    """Keeps events in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, event: Event) -> None:
        """Keep an event, with an ID like an outbox's."""
        self.events.append(event._replace(id=str(len(self.events))))

    def flush(self, timeout: float) -> int:
        """Return at once."""
        return 0


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryLog]:
    """A log of everything that is logged to MLflow, in a separate SQLite store, `source.db`."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    monkeypatch.chdir(tmp_path)
    log = MemoryLog()
    uri = f"sqlite:///{tmp_path / 'source.db'}"

    def build(store_uri: str, artifact_uri: str | None = None) -> Any:
        return duplicate(SqlAlchemyStore(uri, str(tmp_path / "source")), log)

    builders("tracking")["recorded"] = build
    mlflow.set_tracking_uri(f"recorded://{tmp_path}")
    mlflow.set_registry_uri(uri)
    yield log
    del builders("tracking")["recorded"]


def _train(name: str, folder: Path) -> None:
    """Log every kind of entity."""
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
    """A training that uses as much of MLflow as possible, with an experiment of the given name."""
    return _train


@mlflow.trace(span_type="TOOL", attributes={"k": 3})  # type: ignore[untyped-decorator]  # of no known type
def _search(question: str) -> dict[str, Any]:
    span = mlflow.get_current_active_span()
    span.add_event(mlflow.entities.SpanEvent("found", attributes={"n": 2}))
    return {"docs": [question.upper(), "é"]}


def _answer(question: str) -> None:
    # In a separate millisecond: MLflow deletes by age.
    time.sleep(0.005)
    with mlflow.start_span(name=question, span_type="CHAIN") as span:
        span.set_inputs({"question": question})
        if not IS_MLFLOW_2:
            mlflow.update_current_trace(tags={"color": "red"}, client_request_id="request-1")
        found = _search(question)
        if question == "fail":
            raise ValueError(question)
        span.set_outputs(" ".join(found["docs"]))


def _log_traces(experiment: str) -> None:
    """Log a trace of a run, one without a run, a failed one, a deleted one, tags, links and assessments."""
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name="traced") as run:
        _answer("why")
    _answer("alone")
    with suppress(ValueError):
        _answer("fail")
    _answer("deleted")
    if not IS_MLFLOW_2:
        mlflow.flush_trace_async_logging(terminate=False)
    client = mlflow.MlflowClient()
    # Found by name: several may begin in one millisecond.
    found = {
        trace.info.tags["mlflow.traceName"]: trace
        for trace in client.search_traces(experiment_ids=[run.info.experiment_id])
    }
    assert sorted(found) == ["alone", "deleted", "fail", "why"], found
    infos = [found[each].info for each in ("why", "alone", "fail", "deleted")]
    ids = [getattr(info, "trace_id", None) or info.request_id for info in infos]
    client.set_trace_tag(ids[0], "run", f"tagged in {run.info.run_id}")
    client.set_trace_tag(ids[1], "kept", "1")
    client.set_trace_tag(ids[1], "gone", "1")
    client.delete_trace_tag(ids[1], "gone")
    named = "request_ids" if IS_MLFLOW_2 else "trace_ids"
    client.delete_traces(run.info.experiment_id, **{named: [ids[3]]})
    if not IS_MLFLOW_2:
        _assess(client, ids, run.info.run_id)


def _assess(client: Any, ids: list[str], run_id: str) -> None:
    human = mlflow.entities.AssessmentSource("HUMAN", "me@acme.com")
    good = mlflow.log_feedback(
        trace_id=ids[0],
        name="good",
        value=True,
        source=human,
        rationale="It is.",
        metadata={"a": "1"},
    )
    mlflow.log_feedback(trace_id=ids[0], name="score", value=0.25)
    mlflow.log_expectation(
        trace_id=ids[0], name="expected", value={"words": ["WHY", "é"]}, source=human
    )
    mlflow.update_assessment(
        trace_id=ids[0],
        assessment_id=good.assessment_id,
        assessment=mlflow.entities.Feedback(
            name="good", value=False, source=human, rationale="No."
        ),
    )
    wrong = mlflow.log_feedback(trace_id=ids[1], name="wrong", value=1)
    mlflow.delete_assessment(trace_id=ids[1], assessment_id=wrong.assessment_id)
    mlflow.log_feedback(trace_id=ids[1], name="failed", error=ValueError("the judge is ill"))
    judged = mlflow.log_feedback(trace_id=ids[2], name="judged", value="bad")
    mlflow.override_feedback(
        trace_id=ids[2], assessment_id=judged.assessment_id, value="fine", source=human
    )
    client.link_traces_to_run([ids[1], ids[2]], run_id)


@pytest.fixture
def log_traces() -> Callable[[str], None]:
    """A function that logs traces of every kind to an experiment of the given name."""
    return _log_traces


@pytest.fixture(scope="session")
def other_server(
    start_server: Callable[[Path], MlflowServer], tmp_path_factory: pytest.TempPathFactory
) -> MlflowServer:
    """A second MLflow server with separate data."""
    return start_server(tmp_path_factory.mktemp("other"))
