"""The requests of each event."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mlflow_connections.secrets import masked
from mlflow_connections_events.vocabulary import KINDS
from mlflow_connections_outbox import Event, Rejected

from ._bodies import (
    add_task_runs,
    attempt_update,
    dataset_note,
    dataset_row,
    init_run,
    job_of,
    target_row,
)
from ._first_vocabulary import translated
from ._merge import PARAMS, TrackerCall
from ._values import ids_of, long_params, metric, note

Part = tuple[str, str, Any]
"""An endpoint, the name of the list in its body or None, and the rows or the body."""

_BARRIERS = frozenset({"init_run", "update_task_run_attempts", "set_run_state"})


def calls(events: Sequence[Event]) -> Iterator[TrackerCall]:
    """Return the requests of a batch, in order and not yet merged.

    Raises:
        Rejected: An event has a kind that this version does not know, or data that cannot be
            mapped; its position is named. It is kept as a dead letter, for a newer version.
    """
    for position, event in enumerate(map(translated, events)):
        for number, (endpoint, rows, content) in enumerate(_parts(event, position)):
            body = {rows: content} if rows not in {"", PARAMS} else content
            parts = frozenset({(position, number)})
            yield TrackerCall(endpoint, body, _runs(event), parts, rows, endpoint in _BARRIERS)


def _parts(event: Event, position: int) -> list[Part]:
    if event.kind not in _MAPPED and event.kind not in KINDS:
        raise Rejected(
            f"An event cannot be mapped: the kind '{event.kind}' is not known to this version. Upgrade "
            "mlflow-connections-databand, then retry.",
            [position],
        )
    try:
        return list(_MAPPED.get(event.kind, _nothing)(event))
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        # Another attempt would fail as well, and delay every event after it.
        raise Rejected(
            f"An event '{event.kind}' cannot be mapped: {type(error).__name__}: {error}.",
            [position],
        ) from masked(error)


def _nothing(_: Event) -> Iterator[Part]:
    """Map a kind that does not concern runs to no request: Databand cannot store it."""
    return iter(())


def _context(event: Event) -> Mapping[str, Any]:
    context: Mapping[str, Any] = event.data.get("run", {})
    return context


def _attempt(event: Event) -> Mapping[str, str] | None:
    """Return the IDs of the dbnd task attempt that the run is part of, or None."""
    return _context(event).get("extra")


def _runs(event: Event) -> frozenset[str]:
    context = _context(event)
    # Requests about a nested run come after the announcement of its root run.
    return frozenset(filter(None, (event.stream, context.get("parent"), context.get("root"))))


def _run_started(event: Event) -> Iterator[Part]:
    data = event.data
    if _attempt(event):
        info = {k: data[k] for k in ("run_name", "experiment_id", "experiment_name", "user")}
        yield _notes(event, {"run": {"run_id": event.stream, **info}, "status": data["status"]})
    else:
        yield "init_run", "", init_run(event.stream, data)
        state, *run_state = _state(event, data["run"]["started"])
        yield state
        if data["resumed"]:
            # Announcing a run that Databand knows may change nothing.
            yield from run_state
    yield from _params(event, data.get("params", {}), are_sent=not _attempt(event))
    yield from _tags(event, data["tags"])


def _logged(event: Event) -> Iterator[Part]:
    yield from _params(event, event.data.get("params", {}))
    if rows := event.data.get("metrics"):
        yield _metrics(event, [metric(row, event.at) for row in rows])
    yield from _tags(event, event.data.get("tags", {}))


def _tag_deleted(event: Event) -> Iterator[Part]:
    yield _notes(event, {f"tag.{event.data['key']}": {"deleted": True}})


def _run_updated(event: Event) -> Iterator[Part]:
    data = event.data
    if "run_name" in data:
        yield from _tags(event, {"mlflow.runName": data["run_name"]})
    if "status" not in data:
        return
    if _attempt(event):
        # dbnd itself reports the state of its task.
        yield _notes(event, {"status": data["status"]})
        return
    yield from _params(event, data.get("params", {}), are_noted=True)
    yield from _state(event, event.at)


def _state(event: Event, at: int) -> Iterator[Part]:
    """Return the state of a run and of its task, at its end or else at the given time."""
    status, end = event.data["status"], event.data.get("end_time")
    if status not in {"RUNNING", "SCHEDULED"} and end:
        at = end
    ids = ids_of(event.stream)
    row = attempt_update(ids, status, at)
    yield "update_task_run_attempts", "task_run_attempt_updates", [row]
    state = {"run_uid": ids.run, "state": row["state"], "timestamp": row["timestamp"]}
    yield "set_run_state", "", state


def _stage_changed(event: Event) -> Iterator[Part]:
    yield _notes(event, {"lifecycle": event.data["stage"]})


def _inputs_logged(event: Event) -> Iterator[Part]:
    if datasets := event.data.get("datasets"):
        rows = [dataset_row(_owner(event), dataset, event.at) for dataset in datasets]
        yield "log_datasets", "datasets_info", rows
        yield _notes(event, {f"dataset.{d['name']}": dataset_note(d) for d in datasets})
    if models := event.data.get("models"):
        yield _notes(event, {f"model.{m}": {"model_id": m, "role": "input"} for m in models})


def _outputs_logged(event: Event) -> Iterator[Part]:
    models = event.data["models"]
    yield _notes(
        event, {f"model.{m}": {"model_id": m, "role": "output", "step": step} for m, step in models}
    )


_MODEL_FIELDS = (
    *("model_id", "name", "model_type", "status", "artifact_location"),
    *("params", "tags"),
)


def _model_logged(event: Event) -> Iterator[Part]:
    # A model that no run has logged has no task for a note.
    if _context(event):
        known = {name: event.data[name] for name in _MODEL_FIELDS if name in event.data}
        yield _notes(event, {f"model.{known['model_id']}": known})


def _model_recorded(event: Event) -> Iterator[Part]:
    content = event.data["mlmodel"]
    known = {
        "artifact_path": content.get("artifact_path"),
        "model_uuid": content.get("model_uuid"),
        "utc_time_created": str(content.get("utc_time_created")),
        "flavors": sorted(content.get("flavors") or ()),
    }
    name = known["model_uuid"] or known["artifact_path"]
    yield _notes(event, {f"model.{name}": known})


def _artifacts_uploaded(event: Event) -> Iterator[Part]:
    data = event.data
    root = f"models/{data['model']}/" if "model" in data else ""
    rows = [
        target_row(_owner(event), event.stream, f"{root}{path}", size)
        for path, size, *_ in data["files"]
    ]
    yield "log_targets", "targets_info", rows
    if data["count"] > len(rows):
        yield _notes(event, {"artifacts": {"count": data["count"], "bytes": data["bytes"]}})


_MAPPED: Mapping[str, Callable[[Event], Iterator[Part]]] = {
    "run_started": _run_started,
    "run_updated": _run_updated,
    "stage_changed": _stage_changed,
    "logged": _logged,
    "tag_deleted": _tag_deleted,
    "inputs_logged": _inputs_logged,
    "outputs_logged": _outputs_logged,
    "model_logged": _model_logged,
    "model_recorded": _model_recorded,
    "artifacts_uploaded": _artifacts_uploaded,
}


def _params(
    event: Event, params: Mapping[str, str], are_sent: bool = False, are_noted: bool = False
) -> Iterator[Part]:
    """Map params: of a separate run to its task's record, of a dbnd task to notes.

    Args:
        event: The event that contains them.
        params: Names and values.
        are_sent: Whether the run's announcement already contains them.
        are_noted: Whether they were sent before, the long ones complete; this is the record of all.
    """
    if not params:
        return
    if _attempt(event):
        yield _notes(event, {f"param.{name}": value for name, value in params.items()})
        return
    if not are_sent:
        yield "add_task_runs", PARAMS, add_task_runs(event.stream, event.data["run"], params)
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
    if attempt := _attempt(event):
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
        "task_run_name": job_of(_context(event)),
    }
