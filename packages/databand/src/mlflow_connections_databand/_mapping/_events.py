"""Which requests an event becomes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mlflow_connections_outbox import Event, Rejected

from ._bodies import add_task_runs, attempt_update, init_run
from ._calls import PARAMS, Call
from ._ids import ids_of
from ._io import dataset_row, target_row
from ._values import long_params, metric, note

Part = tuple[str, str, Any]
"""An endpoint, the name of the list in its body or nothing, and the rows or the body."""

_BARRIERS = frozenset({"init_run", "update_task_run_attempts", "set_run_state"})


def calls(events: Sequence[Event]) -> Iterator[Call]:
    """Give the requests of a batch, in order and not yet merged.

    Raises:
        Rejected: An event cannot be mapped; its position is named. An unknown kind comes from a
            newer version of this package in another process.
    """
    for position, event in enumerate(events):
        for endpoint, rows, content in _parts(event, position):
            body = {rows: content} if rows not in {"", PARAMS} else content
            is_barrier = endpoint in _BARRIERS
            yield Call(endpoint, body, _runs(event), frozenset({position}), rows, is_barrier)


def _parts(event: Event, position: int) -> list[Part]:
    try:
        return list(_KINDS.get(event.kind, _unknown)(event))
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        # Tried again it would fail again, and hold up all that comes behind it.
        raise Rejected(
            f"An event '{event.kind}' cannot be mapped: {type(error).__name__}: {error}.",
            [position],
        ) from error


def _unknown(event: Event) -> Iterator[Part]:
    raise ValueError(f"the kind {event.kind!r} is not known to this version")


def _runs(event: Event) -> frozenset[str]:
    of = event.data.get("of", {})
    # What tells of a nested run comes after the announcement of the run that it belongs to.
    return frozenset(filter(None, (event.stream, of.get("parent"), of.get("root"))))


def _run(event: Event) -> Iterator[Part]:
    data = event.data
    if _is_attached(event):
        info = {k: data[k] for k in ("run_name", "experiment_id", "experiment_name", "user")}
        yield _notes(event, {"run": {"run_id": event.stream, **info}, "status": data["status"]})
    else:
        yield "init_run", "", init_run(event.stream, data)
        state, *run_state = _state(event, data["of"]["started"])
        yield state
        if data["resumed"]:
            # The announcement of a run that is known may change nothing.
            yield from run_state
    yield from _params(event, data.get("params", {}), are_sent=not _is_attached(event))
    yield from _tags(event, data["tags"])


def _log(event: Event) -> Iterator[Part]:
    yield from _params(event, event.data.get("params", {}))
    if rows := event.data.get("metrics"):
        yield _metrics(event, [metric(row, event.at) for row in rows])
    yield from _tags(event, event.data.get("tags", {}))


def _delete_tag(event: Event) -> Iterator[Part]:
    yield _notes(event, {f"tag.{event.data['key']}": {"deleted": True}})


def _status(event: Event) -> Iterator[Part]:
    if _is_attached(event):
        # The state of a dbnd task is dbnd's to tell.
        yield _notes(event, {"status": event.data["status"]})
        return
    yield from _params(event, event.data.get("params", {}), are_noted=True)
    yield from _state(event, event.at)


def _state(event: Event, at: int) -> Iterator[Part]:
    """Give the state of a run and of its task, since its end or else since the given time."""
    status, end = event.data["status"], event.data.get("end_time")
    if status not in {"RUNNING", "SCHEDULED"} and end:
        at = end
    ids = ids_of(event.stream)
    row = attempt_update(ids, status, at)
    yield "update_task_run_attempts", "task_run_attempt_updates", [row]
    state = {"run_uid": ids.run, "state": row["state"], "timestamp": row["timestamp"]}
    yield "set_run_state", "", state


def _lifecycle(event: Event) -> Iterator[Part]:
    yield _notes(event, {"lifecycle": event.data["stage"]})


def _inputs(event: Event) -> Iterator[Part]:
    if datasets := event.data.get("datasets"):
        rows = [dataset_row(_owner(event), dataset, event.at) for dataset in datasets]
        yield "log_datasets", "datasets_info", rows
        yield _notes(event, {f"dataset.{dataset['name']}": dataset for dataset in datasets})
    if models := event.data.get("models"):
        yield _notes(event, {f"model.{model['model_id']}": model for model in models})


def _model(event: Event) -> Iterator[Part]:
    known = {k: v for k, v in event.data.items() if k not in {"of", "attempt"}}
    name = known.get("model_id") or known.get("model_uuid") or known.get("artifact_path")
    yield _notes(event, {f"model.{name}": known})


def _artifacts(event: Event) -> Iterator[Part]:
    data = event.data
    rows = [target_row(_owner(event), event.stream, path, size) for path, size in data["files"]]
    yield "log_targets", "targets_info", rows
    if data["count"] > len(rows):
        yield _notes(event, {"artifacts": {"count": data["count"], "bytes": data["bytes"]}})


_KINDS: Mapping[str, Callable[[Event], Iterator[Part]]] = {
    "run": _run,
    "log": _log,
    "delete_tag": _delete_tag,
    "status": _status,
    "lifecycle": _lifecycle,
    "inputs": _inputs,
    "model": _model,
    "artifacts": _artifacts,
}


def _is_attached(event: Event) -> bool:
    return "attempt" in event.data


def _params(
    event: Event, params: Mapping[str, str], are_sent: bool = False, are_noted: bool = False
) -> Iterator[Part]:
    """Give params: of a run of its own in its task's record, of a dbnd task as notes.

    Args:
        event: The event they come from.
        params: Names and values.
        are_sent: They stand in the run's announcement already.
        are_noted: They were told before, the long ones whole; this is the record of all.
    """
    if not params:
        return
    if _is_attached(event):
        yield _notes(event, {f"param.{name}": value for name, value in params.items()})
        return
    if not are_sent:
        yield "add_task_runs", PARAMS, add_task_runs(event.stream, event.data["of"], params)
    if not are_noted and (long := long_params(params)):
        yield _notes(event, {f"param.{name}": value for name, value in long.items()})


def _tags(event: Event, tags: Mapping[str, str]) -> Iterator[Part]:
    if tags:
        yield _notes(event, {f"tag.{name}": value for name, value in tags.items()})


def _notes(event: Event, notes: Mapping[str, Any]) -> Part:
    return _metrics(event, [note(key, value, event.at) for key, value in notes.items()])


def _metrics(event: Event, metrics: list[dict[str, Any]]) -> Part:
    attempt = _owner(event)["task_run_attempt_uid"]
    rows = [{"task_run_attempt_uid": attempt, "source": m["source"], "metric": m} for m in metrics]
    return "log_metrics", "metrics_info", rows


def _owner(event: Event) -> dict[str, Any]:
    if attempt := event.data.get("attempt"):
        return {
            "run_uid": attempt["run_uid"],
            "task_run_uid": attempt["task_run_uid"],
            "task_run_attempt_uid": attempt["task_run_attempt_uid"],
            "task_run_name": attempt["task_name"],
        }
    ids = ids_of(event.stream)
    return {
        "run_uid": ids.run,
        "task_run_uid": ids.task_run,
        "task_run_attempt_uid": ids.attempt,
        "task_run_name": event.data.get("of", {}).get("job", ""),
    }
