"""Capture: what becomes an event, and that it never shows."""

import logging
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.entities import Metric, Param, Run, RunData, RunInfo, RunTag

from mlflow_connections_databand._capture import Recorder
from mlflow_connections_databand._delegate import delegate
from mlflow_connections_outbox import Event


class Kept:
    """An outbox in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.flushed = 0

    def append(self, event: Event) -> None:
        """Keep."""
        self.events.append(event)

    def flush(self, timeout: float) -> int:
        """Count the waits."""
        self.flushed += 1
        return 0


class Store:
    """As much of a tracking store as these tests need."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.future: Future[None] = Future()

    def create_run(self, experiment_id: str, tags: list[RunTag]) -> Run:
        """Create a run whose id is its name."""
        return run_of("r1", {tag.key: tag.value for tag in tags})

    def get_run(self, run_id: str) -> Run:
        """Give a run that somebody else created."""
        self.asked.append(run_id)
        return run_of(run_id, {}, {"old": "1"})

    def get_experiment(self, experiment_id: str) -> Any:
        """Give an experiment."""
        self.asked.append(f"experiment {experiment_id}")
        return SimpleNamespace(experiment_id=experiment_id, name="Default")

    def update_run_info(self, run_id: str, run_status: int | None, end_time: int) -> RunInfo:
        """End a run."""
        return run_of(run_id, {}, status="FINISHED", end_time=end_time).info

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        """Accept."""

    def log_batch_async(self, run_id: str, metrics: Any, params: Any, tags: Any) -> Any:
        """Accept for later."""
        return SimpleNamespace(_operation_futures=[self.future])


def run_of(
    run_id: str,
    tags: dict[str, str],
    params: dict[str, str] | None = None,
    status: str = "RUNNING",
    end_time: int | None = None,
) -> Run:
    """Make a run as MLflow gives it."""
    info = RunInfo(
        run_id=run_id,
        experiment_id="0",
        user_id="me",
        status=status,
        start_time=1,
        end_time=end_time,
        lifecycle_stage="active",
        artifact_uri=f"/nowhere/{run_id}",
        **_OLDER,
    )
    data = RunData(
        params=[Param(k, v) for k, v in (params or {}).items()],
        tags=[RunTag(k, v) for k, v in tags.items()],
    )
    return Run(info, data)


_OLDER: dict[str, Any] = {}
if "run_uuid" in RunInfo.__init__.__code__.co_varnames:
    _OLDER["run_uuid"] = "unused"


@pytest.fixture
def kept() -> Kept:
    """An outbox to look into."""
    return Kept()


def duplicated(kept: Kept, **more: Any) -> tuple[Any, Store]:
    """Give a store with a copy, and the store behind it."""
    store = Store()
    return delegate(store, Recorder(store, kept, **more).methods()), store


def test_a_run_is_announced_and_its_events_follow(kept: Kept) -> None:
    """Creating announces it, logging tells values, ending tells all params and waits a moment."""
    store, _ = duplicated(kept)
    store.create_run("0", [RunTag("t", "v")])
    store.log_batch("r1", [Metric("m", 1.0, 5, 2)], [Param("p", "1")], [])
    store.update_run_info("r1", 3, 9)
    assert [event.kind for event in kept.events] == ["run", "log", "status"]
    assert kept.events[0].data["experiment_name"] == "Default"
    assert kept.events[1].data["metrics"] == [["m", 1.0, 5, 2]]
    assert kept.events[2].data["params"] == {"p": "1"}
    assert kept.flushed == 1


def test_secrets_never_leave_the_call(kept: Kept) -> None:
    """The values of secret names, and passwords in URIs, are masked before anything is kept."""
    store, _ = duplicated(kept)
    store.create_run("0", [RunTag("repo", "https://me:hidden@git/x"), RunTag("plain", "a:b@c")])
    store.log_batch("r1", [], [Param("db_password", "hidden"), Param("tokenizer", "bpe")], [])
    assert "hidden" not in str(kept.events)
    assert kept.events[0].data["tags"]["plain"] == "a:b@c"
    assert kept.events[1].data["params"]["tokenizer"] == "bpe"


def test_a_run_of_another_process_is_announced_once(kept: Kept) -> None:
    """The first event of an unknown run asks MLflow for it, and only the first."""
    store, inner = duplicated(kept)
    for _ in range(3):
        store.log_batch("other", [Metric("m", 1.0, 5, 0)], [], [])
    assert [event.kind for event in kept.events] == ["run", "log", "log", "log"]
    assert kept.events[0].data["resumed"] is True
    assert kept.events[0].data["params"] == {"old": "1"}
    assert inner.asked == ["other", "experiment 0"]


def test_a_nested_run_does_not_wait_at_its_end(kept: Kept) -> None:
    """Only the outermost run's end waits for delivery."""
    store, _ = duplicated(kept)
    store.create_run("0", [RunTag("mlflow.parentRunId", "parent")])
    store.update_run_info("r1", 3, 9)
    assert [event.stream for event in kept.events] == ["parent", "r1", "r1"]
    assert kept.events[1].data["of"]["parent"] == "parent"
    assert kept.flushed == 0


def test_an_asynchronous_call_is_kept_once_mlflow_has_written_it(kept: Kept) -> None:
    """Not before, with the values of the call, although MLflow extends its caller's list."""
    store, inner = duplicated(kept)
    metrics = [Metric("m", 1.0, 5, 0)]
    store.log_batch_async("r1", metrics, [], [])
    metrics.append(Metric("another", 1.0, 5, 0))
    assert kept.events == []
    inner.future.set_result(None)
    assert kept.events[-1].data["metrics"] == [["m", 1.0, 5, 0]]


def test_an_asynchronous_call_that_fails_is_not_copied(kept: Kept) -> None:
    """Databand sees only what MLflow accepted."""
    store, inner = duplicated(kept)
    store.log_batch_async("r1", [Metric("m", 1.0, 5, 0)], [], [])
    inner.future.set_exception(OSError("refused"))
    assert kept.events == []


def test_capture_never_raises_and_tells_once(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """A defect of the copy costs the copy, and one warning."""
    store, inner = duplicated(kept)
    inner.get_run = None  # type: ignore[assignment,method-assign]  # as a broken store
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            store.log_batch("other", [Metric("m", 1.0, 5, 0)], [], [])
    assert kept.events == []
    assert len(caplog.records) == 1


def test_nothing_is_captured_while_duplication_is_off(kept: Kept) -> None:
    """A store that outlives its connection copies nothing."""
    store, _ = duplicated(kept, while_true=lambda: False)
    store.create_run("0", [])
    assert kept.events == []


def test_a_number_that_is_none_becomes_text(kept: Kept) -> None:
    """Whatever a store accepted as a value, the copy does not fail on it."""
    store, _ = duplicated(kept)
    metric = SimpleNamespace(key="m", value="high", timestamp=5, step=None)
    store.log_batch("r1", [metric], [], [])
    assert kept.events[-1].data["metrics"] == [["m", "high", 5, 0]]
