"""The recorder: the events of each call, and that callers are not affected."""

import logging
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.entities import ExperimentTag, Metric, Param, Run, RunData, RunInfo, RunTag

from mlflow_connections_events import duplicate, files
from mlflow_connections_events.vocabulary import DATA, KINDS, RUN_KINDS
from mlflow_connections_outbox import Event


class MemoryLog:
    """An outbox in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.flushed = 0

    def append(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)

    def flush(self, timeout: float) -> int:
        """Count the calls."""
        self.flushed += 1
        return 0


class Store:
    """The methods of a tracking store that these tests use."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.future: Future[None] = Future()

    def create_run(self, experiment_id: str, tags: list[RunTag]) -> Run:
        """Create a run whose ID is its name."""
        return run_of("r1", {tag.key: tag.value for tag in tags})

    def get_run(self, run_id: str) -> Run:
        """Return a run that another process created."""
        self.asked.append(run_id)
        return run_of(run_id, {}, {"old": "1"})

    def create_experiment(self, name: str, artifact_location: Any = None, tags: Any = None) -> str:
        """Create experiment 7."""
        return "7"

    def set_experiment_tag(self, experiment_id: str, tag: Any) -> None:
        """Accept."""

    def create_logged_model(self, experiment_id: str) -> Any:
        """Create a model that belongs to no run."""
        return self.get_logged_model("m-1")

    def get_logged_model(self, model_id: str) -> Any:
        """Return a model that belongs to no run."""
        self.asked.append(f"model {model_id}")
        return SimpleNamespace(
            model_id=model_id,
            experiment_id="7",
            source_run_id=None,
            name="model",
            model_type=None,
            status="READY",
            creation_timestamp=5,
            artifact_location="s3://bucket/m-1",
            params={},
            tags={},
        )

    def set_logged_model_tags(self, model_id: str, tags: Any) -> None:
        """Accept."""

    def start_trace(self, trace_info: Any) -> Any:
        """Start a trace, with an assessment that gets its ID in this call."""
        assessments = [SimpleNamespace(**vars(a)) for a in trace_info.assessments]
        for number, each in enumerate(assessments):
            each.assessment_id = f"a-{number}"
        tags = {**trace_info.tags, "mlflow.artifactLocation": "s3://bucket/tr-1"}
        return SimpleNamespace(tags=tags, assessments=assessments)

    def log_spans(self, location: str, spans: Any) -> Any:
        """Accept."""
        return spans

    def delete_traces(
        self,
        experiment_id: str,
        max_timestamp_millis: int | None = None,
        max_traces: int | None = None,
        trace_ids: list[str] | None = None,
    ) -> int:
        """Delete two."""
        return 2

    def link_traces_to_run(self, trace_ids: list[str], run_id: str) -> None:
        """Accept."""

    def create_assessment(self, assessment: Any) -> Any:
        """Create an assessment with a new ID."""
        return SimpleNamespace(trace_id="tr-1", assessment_id="a-9")

    def delete_assessment(self, trace_id: str, assessment_id: str) -> None:
        """Accept."""

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """Accept."""

    def get_experiment(self, experiment_id: str) -> Any:
        """Return an experiment."""
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
    """Return a run as MLflow does."""
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
def log() -> MemoryLog:
    """A log to inspect."""
    return MemoryLog()


def duplicated(log: MemoryLog, **more: Any) -> tuple[Any, Store]:
    """Return a recorded store, and the store behind it."""
    store = Store()
    return duplicate(store, log, **{"kinds": RUN_KINDS, **more}), store


def test_a_run_is_announced_and_its_events_follow(log: MemoryLog) -> None:
    """Creating announces the run, logging adds values, ending repeats all params and waits a moment."""
    store, _ = duplicated(log)
    store.create_run("0", [RunTag("t", "v")])
    store.log_batch("r1", [Metric("m", 1.0, 5, 2)], [Param("p", "1")], [])
    store.update_run_info("r1", 3, 9)
    assert [event.kind for event in log.events] == ["run_started", "logged", "run_updated"]
    assert log.events[0].data["experiment_name"] == "Default"
    assert log.events[1].data["metrics"] == [["m", 1.0, 5, 2]]
    assert log.events[2].data["params"] == {"p": "1"}
    assert log.flushed == 1


def test_redaction_sees_every_text_before_it_is_logged(log: MemoryLog) -> None:
    """Params, tags and URIs pass through the product's function; metrics do not."""
    seen: list[str] = []

    def redact(name: str, value: str) -> str:
        seen.append(name)
        return "***" if value == "hidden" else value

    store, _ = duplicated(log, redact=redact)
    store.create_run("0", [RunTag("tag", "hidden")])
    store.log_batch(
        "r1", [Metric("m", 1.0, 5, 0)], [Param("param", "hidden")], [RunTag("later", "hidden")]
    )
    store.record_logged_model("r1", SimpleNamespace(get_tags_dict=lambda: {"a": [{"b": "hidden"}]}))
    assert "hidden" not in str(log.events)
    assert log.events[2].data["mlmodel"] == {"a": [{"b": "***"}]}
    assert seen == ["tag", "artifact_uri", "param", "later", "b"]


def test_by_default_events_are_faithful(log: MemoryLog) -> None:
    """Without a redaction an event contains the values as they were logged."""
    store, _ = duplicated(log)
    store.create_run("0", [RunTag("api_key", "value")])
    assert log.events[0].data["tags"] == {"api_key": "value"}


def test_the_extra_of_an_outermost_run_is_in_its_context_and_in_nested_ones(log: MemoryLog) -> None:
    """A product attaches runs to its own objects; nested runs name their parent's."""
    store, _ = duplicated(log, extra=lambda: {"task": "t1"})
    store.create_run("0", [])
    store.log_batch("r1", [Metric("m", 1.0, 5, 0)], [], [])
    store.create_run("0", [RunTag("mlflow.parentRunId", "r1")])
    assert [event.data["run"].get("extra") for event in log.events] == [
        {"task": "t1"},
        {"task": "t1"},
        None,
    ]
    assert log.events[2].data["run"]["parent_extra"] == {"task": "t1"}
    assert log.events[2].data["run"]["root_extra"] == {"task": "t1"}


def test_unused_kinds_are_not_logged(log: MemoryLog) -> None:
    """A product names the kinds that it uses, and nothing else reaches its outbox."""
    store, _ = duplicated(log, kinds=frozenset({"run_started"}))
    store.create_run("0", [])
    store.log_batch("r1", [Metric("m", 1.0, 5, 0)], [], [])
    assert [event.kind for event in log.events] == ["run_started"]


def test_experiments_and_models_have_their_own_streams(log: MemoryLog) -> None:
    """An experiment, its tags, and a model that no run has logged need no run."""
    store, _ = duplicated(log, kinds=KINDS)
    store.create_experiment("wine", "s3://bucket", [ExperimentTag("team", "red")])
    store.set_experiment_tag("7", ExperimentTag("team", "white"))
    store.create_logged_model("7")
    store.set_logged_model_tags("m-1", [RunTag("a", "1")])
    assert [(e.stream, e.kind) for e in log.events] == [
        ("7", "experiment_created"),
        ("7", "experiment_tagged"),
        ("m-1", "model_logged"),
        ("m-1", "model_tagged"),
    ]
    assert log.events[0].data == {
        "name": "wine",
        "artifact_location": "s3://bucket",
        "tags": {"team": "red"},
    }
    assert log.events[3].data == {"model_id": "m-1", "tags": {"a": "1"}}


def test_a_model_of_another_process_is_fetched_once(log: MemoryLog) -> None:
    """The store is asked for an unknown model's run, and only the first time."""
    store, inner = duplicated(log, kinds=KINDS)
    for _ in range(3):
        store.set_logged_model_tags("m-2", [RunTag("a", "1")])
    assert inner.asked == ["model m-2"]
    assert [event.stream for event in log.events] == ["m-2"] * 3


def feedback(**more: Any) -> Any:
    """Return a feedback as MLflow 3 does."""
    fields: dict[str, Any] = {
        "name": "good",
        "assessment_id": None,
        "feedback": SimpleNamespace(value=True, error=None),
        "source": SimpleNamespace(source_type="HUMAN", source_id="me"),
        "trace_id": "tr-1",
        "span_id": None,
        "rationale": "hidden",
        "metadata": {},
        "create_time_ms": 5,
        "last_update_time_ms": 5,
    }
    return SimpleNamespace(**(fields | more))


def test_a_trace_is_recorded_with_its_run_and_its_assessments(log: MemoryLog) -> None:
    """The run comes first; tags that a server sets are omitted; assessments have the server's IDs."""
    store, _ = duplicated(log, kinds=KINDS, redact=lambda _, v: "***" if v == "hidden" else v)
    info = SimpleNamespace(
        trace_id="tr-1",
        experiment_id="0",
        status="OK",
        timestamp_ms=1,
        execution_time_ms=2,
        request_metadata={"mlflow.sourceRun": "r1"},
        tags={"t": "hidden", "mlflow.trace.spansLocation": "TRACKING_STORE"},
        assessments=[feedback()],
    )
    store.start_trace(info)
    run, trace, assessment = log.events
    assert (run.stream, run.kind) == ("r1", "run_started")
    assert (trace.stream, trace.kind, trace.data["tags"]) == ("tr-1", "trace_logged", {"t": "***"})
    assert trace.data["artifact_location"] == "s3://bucket/tr-1"
    assert trace.data["run"]["experiment_name"] == "Default"
    assert (assessment.stream, assessment.kind) == ("tr-1", "assessment_logged")
    assert assessment.data["assessment_id"] == "a-0"
    assert assessment.data["rationale"] == "***"


def test_spans_of_several_traces_are_events_of_each(log: MemoryLog) -> None:
    """MLflow exports the spans that have ended since the last export, of all traces."""
    store, _ = duplicated(log, kinds=KINDS)
    spans = [
        SimpleNamespace(trace_id=trace, to_dict=lambda n=number: {"span_id": n})
        for number, trace in enumerate(["tr-1", "tr-2", "tr-1"])
    ]
    store.log_spans("0", spans)
    found = [
        (event.stream, [span["span_id"] for span in event.data["spans"]]) for event in log.events
    ]
    assert found == [("tr-1", [0, 2]), ("tr-2", [1])]


def test_deleted_traces_links_and_assessments_are_recorded(log: MemoryLog) -> None:
    """Deletion is by ID or by age, a link names its run, and an unknown kind of assessment is omitted."""
    store, _ = duplicated(log, kinds=KINDS)
    store.delete_traces("0", trace_ids=["tr-1"])
    store.delete_traces("0", max_timestamp_millis=7, max_traces=5)
    store.link_traces_to_run(["tr-1"], "r1")
    store.create_assessment(feedback())
    store.create_assessment(feedback(feedback=None, issue="an issue"))
    store.delete_assessment("tr-1", "a-9")
    assert [(event.stream, event.kind) for event in log.events] == [
        ("tr-1", "trace_deleted"),
        ("0", "traces_deleted"),
        ("r1", "run_started"),
        ("tr-1", "trace_linked"),
        ("tr-1", "assessment_logged"),
        ("tr-1", "assessment_deleted"),
    ]
    assert (log.events[1].data["until"], log.events[1].data["count"]) == (7, 2)
    assert log.events[3].data["linked_run"] == "r1"
    assert log.events[4].data["assessment_id"] == "a-9"


def test_a_product_for_runs_records_no_trace(log: MemoryLog) -> None:
    """Databand, for example, cannot store traces; recording them would cost requests."""
    store, inner = duplicated(log)
    store.log_spans("0", [SimpleNamespace(trace_id="tr-1")])
    store.delete_traces("0", trace_ids=["tr-1"])
    store.link_traces_to_run(["tr-1"], "r1")
    store.create_assessment(feedback())
    assert log.events == []
    assert inner.asked == []


def test_every_kind_of_the_vocabulary_has_a_type() -> None:
    """The types describe the data of each kind, and no others."""
    assert DATA.keys() == KINDS
    assert RUN_KINDS < KINDS


def test_a_run_of_another_process_is_announced_once(log: MemoryLog) -> None:
    """The first event of an unknown run requests it from MLflow, and only the first."""
    store, inner = duplicated(log)
    for _ in range(3):
        store.log_batch("other", [Metric("m", 1.0, 5, 0)], [], [])
    assert [event.kind for event in log.events] == ["run_started", "logged", "logged", "logged"]
    assert log.events[0].data["resumed"] is True
    assert log.events[0].data["params"] == {"old": "1"}
    assert inner.asked == ["other", "experiment 0"]


def test_a_nested_run_does_not_wait_at_its_end(log: MemoryLog) -> None:
    """Only the end of the outermost run waits for delivery."""
    store, _ = duplicated(log)
    store.create_run("0", [RunTag("mlflow.parentRunId", "parent")])
    store.update_run_info("r1", 3, 9)
    assert [event.stream for event in log.events] == ["parent", "r1", "r1"]
    assert log.events[1].data["run"]["parent"] == "parent"
    assert log.flushed == 0


def test_an_asynchronous_call_is_recorded_once_mlflow_has_written_it(log: MemoryLog) -> None:
    """Its event has the values of the call, although MLflow extends its caller's list."""
    store, inner = duplicated(log)
    metrics = [Metric("m", 1.0, 5, 0)]
    store.log_batch_async("r1", metrics, [], [])
    metrics.append(Metric("another", 1.0, 5, 0))
    assert log.events == []
    inner.future.set_result(None)
    assert log.events[-1].data["metrics"] == [["m", 1.0, 5, 0]]


def test_an_asynchronous_call_that_fails_is_not_copied(log: MemoryLog) -> None:
    """The destination receives only data that MLflow accepted."""
    store, inner = duplicated(log)
    store.log_batch_async("r1", [Metric("m", 1.0, 5, 0)], [], [])
    inner.future.set_exception(OSError("refused"))
    assert log.events == []


def test_recording_never_raises_and_warns_once(
    log: MemoryLog, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect of the recorder costs the copy, and causes one warning."""
    store, inner = duplicated(log)
    inner.get_run = None  # type: ignore[assignment,method-assign]  # as a broken store
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            store.log_batch("other", [Metric("m", 1.0, 5, 0)], [], [])
    assert log.events == []
    assert len(caplog.records) == 1


def test_nothing_is_recorded_while_disabled(log: MemoryLog) -> None:
    """A store that outlives its connection copies nothing."""
    store, _ = duplicated(log, enabled=lambda: False)
    store.create_run("0", [])
    assert log.events == []


def test_a_value_that_is_not_a_number_becomes_text(log: MemoryLog) -> None:
    """Whatever value a store accepted, the copy does not fail."""
    store, _ = duplicated(log)
    metric = SimpleNamespace(key="m", value="high", timestamp=5, step=None)
    store.log_batch("r1", [metric], [], [])
    assert log.events[-1].data["metrics"] == [["m", "high", 5, 0]]


@pytest.mark.parametrize("profile", ["", "//databricks", "//prod@databricks", "//a:b@databricks"])
def test_files_on_databricks_belong_to_their_run(profile: str) -> None:
    """MLflow adds the workspace's profile to the place of a run's files; other URIs stay."""
    assert files.root_of(f"dbfs:{profile}/databricks/a/") == "dbfs:/databricks/a"
    assert files.root_of("s3://databricks/a/") == "s3://databricks/a"


def test_runs_are_announced_again_to_another_log() -> None:
    """A log in another folder has a destination of its own, which does not know the runs."""
    logs = [MemoryLog(), MemoryLog()]
    store = duplicate(Store(), lambda: logs[0], kinds=RUN_KINDS)
    store.create_run("7", [])
    store.log_batch("r1", [], [], [RunTag("a", "1")])
    logs.reverse()
    store.log_batch("r1", [], [], [RunTag("a", "2")])
    store.log_batch("r1", [], [], [RunTag("a", "3")])
    new, old = ([event.kind for event in log.events] for log in logs)
    assert old == ["run_started", "logged"]
    assert new == ["run_started", "logged", "logged"]
