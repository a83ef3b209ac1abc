"""The mapping of an MLflow event, and the conventions where Databand has no field."""

import json
import math
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_connections_databand._mapping import TrackerCall, calls, merged
from mlflow_connections_databand._mapping._values import ids_of, metric, note, param
from mlflow_connections_outbox import Event, Rejected

RUN = "0123456789abcdef0123456789abcdef"
AT = 1_700_000_000_123
CONTEXT = {"experiment_id": "1", "experiment_name": "experiment", "started": AT}


def run_event(run_id: str = RUN, **more: Any) -> Event:
    """Return the announcement of a run."""
    data = {
        "experiment_id": "1",
        "experiment_name": "experiment",
        "run_name": "name",
        "user": "me",
        "status": "RUNNING",
        "start_time": AT,
        "end_time": None,
        "artifact_uri": "",
        "parent": None,
        "tags": {"mlflow.user": "me"},
        "resumed": False,
        "run": CONTEXT,
    }
    return Event(run_id, "run_started", AT, {**data, **more})


def log_event(run_id: str = RUN, **data: Any) -> Event:
    """Return an event of a run that logs."""
    return Event(run_id, "logged", AT, {"run": CONTEXT, **data})


def test_all_ids_derive_from_the_run() -> None:
    """The run's ID is MLflow's own, and mapping twice returns the same."""
    assert ids_of(RUN).run == str(UUID(RUN))
    assert ids_of(RUN) == ids_of(RUN)
    assert len(set(ids_of(RUN))) == 4
    assert UUID(ids_of("careful_ant_1").run).version == 5


def test_a_whole_run_takes_few_calls() -> None:
    """Announced, running, 500 metrics, ended: five calls, in this order."""
    events = [run_event(tags={})]
    events += [log_event(metrics=[["m", 1.0, AT + i, i]]) for i in range(500)]
    events += [
        Event(RUN, "run_updated", AT, {"status": "FINISHED", "end_time": AT + 9, "run": CONTEXT})
    ]
    done = merged(calls(events))
    assert [call.endpoint for call in done] == [
        "init_run",
        "update_task_run_attempts",
        "log_metrics",
        "update_task_run_attempts",
        "set_run_state",
    ]
    assert len(done[2].body["metrics_info"]) == 500


def test_params_are_params_of_the_task() -> None:
    """Params of several events share one record, and never become metrics."""
    events = [log_event(params={"a": "1"}), log_event(params={"b": "2"})]
    (call,) = merged(calls(events))
    assert call.endpoint == "add_task_runs"
    (task,) = call.body["task_runs_info"]["task_runs"]
    assert [(p["parameter_name"], p["value"]) for p in task["task_run_params"]] == [
        ("a", "1"),
        ("b", "2"),
    ]


def test_a_metric_keeps_its_number_and_has_a_separate_step() -> None:
    """A number stays a number, even with a step, a model or a dataset."""
    plain = metric(["m", 0.5, AT, 0], AT)
    assert (plain["value"], plain["value_float"], plain["value_json"]) == (0.5, 0.5, None)
    assert plain["timestamp"] == "2023-11-14T22:13:20.123000+00:00"
    stepped = metric(["m", 0.5, AT, 7, {"model_id": "m-1"}], AT)
    assert (stepped["value_float"], stepped["value_json"]) == (0.5, {"step": 7, "model_id": "m-1"})


@pytest.mark.parametrize(
    ("value", "name"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")]
)
def test_a_number_that_json_lacks_is_named(value: float, name: str) -> None:
    """NaN and the infinities are text in JSON, never bare."""
    given_metric = metric(["m", value, AT, 2], AT)
    assert given_metric["value_json"] == {"value": name, "step": 2}
    assert given_metric["value_float"] is None
    json.dumps(given_metric, allow_nan=False)


def test_a_time_outside_of_the_calendar_does_no_harm() -> None:
    """Nanoseconds given as milliseconds are kept separately, and the event's time is used instead."""
    wrong = AT * 1_000_000
    given_metric = metric(["m", 1.0, wrong, 0], AT)
    assert given_metric["timestamp"] == "2023-11-14T22:13:20.123000+00:00"
    assert given_metric["value_json"] == {"timestamp": wrong}


@given(st.text(max_size=20), st.floats(), st.integers(-(2**60), 2**60), st.integers(0, 2**40))
def test_any_metric_is_json(key: str, value: float, at: int, step: int) -> None:
    """Whatever MLflow accepts becomes JSON without bare NaN."""
    json.dumps(metric([key, value, at, step], AT), allow_nan=False)


def test_a_long_text_is_truncated_in_its_field_and_complete_in_a_note() -> None:
    """Databand keeps 5,000 characters of a text, and all of JSON."""
    text = "x" * 6_000
    assert len(param("p", text)["value"]) == 5_000
    assert note("tag.t", text, AT)["value_json"] == {"value": text}
    done = merged(calls([log_event(params={"p": text})]))
    assert [call.endpoint for call in done] == ["add_task_runs", "log_metrics"]
    (row,) = done[1].body["metrics_info"]
    assert (row["metric"]["key"], row["metric"]["value_json"]) == (
        "mlflow.param.p",
        {"value": text},
    )


@pytest.mark.parametrize(
    ("status", "state"),
    [("FINISHED", "SUCCESS"), ("FAILED", "FAILED"), ("KILLED", "CANCELLED")],
)
def test_a_runs_end_has_its_time(status: str, state: str) -> None:
    """The task and the run both have the time at which MLflow ended the run."""
    ended = {"status": status, "end_time": AT + 1_000, "run": CONTEXT}
    task, run = merged(calls([Event(RUN, "run_updated", AT, ended)]))
    assert task.body["task_run_attempt_updates"][0]["state"] == state
    assert run.body["state"] == state
    assert run.body["timestamp"] == "2023-11-14T22:13:21.123000+00:00"


def test_a_nested_run_names_its_parent() -> None:
    """Root and parent are the IDs in the parent's own announcement."""
    child = "f" * 32
    context = {**CONTEXT, "parent": RUN, "root": RUN}
    (call, *_) = merged(calls([run_event(child, parent=RUN, run=context)]))
    root = call.body["init_args"]["new_run_info"]["root_run"]
    assert root["root_run_uid"] == ids_of(RUN).run
    assert root["root_task_run_attempt_uid"] == ids_of(RUN).attempt


def test_inside_a_dbnd_task_everything_belongs_to_its_attempt() -> None:
    """No run is announced and no state sent: both belong to dbnd."""
    attempt = {
        "run_uid": str(UUID(int=1)),
        "task_run_uid": str(UUID(int=2)),
        "task_run_attempt_uid": str(UUID(int=3)),
        "task_name": "task",
    }
    context = {**CONTEXT, "extra": attempt}
    events = [
        run_event(run=context),
        log_event(run=context, params={"p": "1"}, metrics=[["m", 1.0, AT, 0]]),
        Event(RUN, "run_updated", AT, {"status": "FINISHED", "end_time": AT, "run": context}),
    ]
    (call,) = merged(calls(events))
    rows = call.body["metrics_info"]
    assert {row["task_run_attempt_uid"] for row in rows} == {attempt["task_run_attempt_uid"]}
    assert {row["metric"]["key"] for row in rows} >= {"m", "mlflow.param.p", "mlflow.status"}


def test_datasets_and_artifacts_have_their_own_fields() -> None:
    """A dataset that was read and a file that was written are rows of Databand's own kinds."""
    dataset = {
        "name": "d",
        "digest": "abc",
        "source_type": "local",
        "source": json.dumps({"uri": "s3://bucket/key"}),
        "schema": json.dumps({"mlflow_colspec": [{"name": "x", "type": "double"}]}),
        "profile": json.dumps({"num_rows": 3}),
        "tags": {},
    }
    events = [
        Event(RUN, "inputs_logged", AT, {"datasets": [dataset], "run": CONTEXT}),
        Event(
            RUN,
            "artifacts_uploaded",
            AT,
            {"files": [["a/b", 5]], "count": 1, "bytes": 5, "run": CONTEXT},
        ),
    ]
    read, _, written = merged(calls(events))
    (row,) = read.body["datasets_info"]
    assert row["operation_path"] == "s3://bucket/key"
    assert row["data_dimensions"] == [3, 1]
    assert row["data_schema"]["dtypes"] == {"x": "double"}
    (target,) = written.body["targets_info"]
    assert target["target_path"] == f"runs:/{RUN}/a/b"


def test_an_event_that_cannot_be_mapped_is_named() -> None:
    """It is rejected, so that it does not delay later events."""
    events = [log_event(tags={"a": "1"}), Event(RUN, "tag_deleted", AT, {})]
    with pytest.raises(Rejected) as caught:
        merged(calls(events))
    assert caught.value.positions == {1}


def test_a_profile_with_nan_is_json() -> None:
    """A number that JSON lacks is named, at any depth."""
    told = note("dataset.d", {"profile": {"mean": [math.nan]}}, AT)
    assert told["value_json"] == {"profile": {"mean": ["NaN"]}}


def test_a_kind_of_a_newer_version_is_rejected() -> None:
    """An older shipper keeps a newer process's event, instead of counting it as delivered."""
    with pytest.raises(Rejected, match="the kind 'hologram' is not known") as rejection:
        list(calls([Event(RUN, "log", AT, {}), Event(RUN, "hologram", AT, {})]))
    assert rejection.value.positions == {1}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]),
            st.sampled_from(["init_run", "log_metrics", "log_targets", "set_run_state"]),
        ),
        max_size=40,
    )
)
def test_merging_keeps_each_runs_order(steps: list[tuple[str, str]]) -> None:
    """States stay in place, and metrics stay in order between them."""
    made = [
        TrackerCall(
            endpoint,
            {"rows": [(run, number)]},
            frozenset({run}),
            frozenset({(number, 0)}),
            "rows" if endpoint.startswith("log") else "",
            not endpoint.startswith("log"),
        )
        for number, (run, endpoint) in enumerate(steps)
    ]
    expected = {run: _epochs([c for c in made if run in c.runs]) for run in "abc"}
    done = merged(made)
    flat = [
        call._replace(body={"rows": [row]}, runs=frozenset({row[0]}))
        for call in done
        for row in call.body["rows"]
    ]
    assert {run: _epochs([c for c in flat if run in c.runs]) for run in "abc"} == expected


def _epochs(of_run: list[TrackerCall]) -> list[Any]:
    """Return the contents of a run's calls between its states: rows by kind, in order."""
    epochs: list[Any] = [{}]
    for call in of_run:
        if call.rows:
            epochs[-1].setdefault(call.endpoint, []).extend(call.body["rows"])
        else:
            epochs += [(call.endpoint, call.body["rows"][0]), {}]
    return epochs
