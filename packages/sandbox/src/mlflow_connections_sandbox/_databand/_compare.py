"""Compare the tracker's data with MLflow's, run by run and event by event.

It relies only on the documented conventions of the copy, not on the code that makes it.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from ._stand_in import Databand

_STATES = {"RUNNING": "RUNNING", "FINISHED": "SUCCESS", "FAILED": "FAILED", "KILLED": "CANCELLED"}
_MASK = "***"
_MODELS = "mlflow.log-model.history"


def compare(tracking_uri: str, tracker: "Databand", experiment: str | None = None) -> list[str]:
    """Return every difference between the runs of an MLflow store and their copies, in words.

    Args:
        tracking_uri: The MLflow store.
        tracker: The stand-in with the copies.
        experiment: Only this experiment, by name; else every run of the store must have a copy.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    copies = {
        run["run_uid"]: run for run in tracker.runs() if experiment in {None, run["job_name"]}
    }
    differences = []
    for run, job in _runs(client, experiment):
        copy = copies.pop(str(UUID(run.info.run_id)), None)
        if copy is None:
            differences.append(f"run {run.info.run_id}: has no copy")
        else:
            differences += [
                f"run {run.info.run_id}: {text}" for text in _differences(client, run, job, copy)
            ]
    return differences + [f"run {uid}: MLflow has no such run" for uid in copies]


def _runs(client: "MlflowClient", experiment: str | None) -> Iterator[tuple["Run", str]]:
    from mlflow.entities import ViewType

    names = {
        e.experiment_id: e.name
        for e in client.search_experiments(ViewType.ALL)
        if experiment in {None, e.name}
    }
    token = None
    while True:
        page = client.search_runs(
            list(names), run_view_type=ViewType.ALL, max_results=1_000, page_token=token
        )
        yield from ((run, names[run.info.experiment_id]) for run in page)
        token = page.token
        if not token:
            return


def _differences(
    client: "MlflowClient", run: "Run", job: str, copy: Mapping[str, Any]
) -> Iterator[str]:
    if len(copy["tasks"]) != 1:
        yield f"the copy has {len(copy['tasks'])} tasks, not one"
        return
    (task,) = copy["tasks"]
    notes = {m["key"]: _value(m) for m in task["metrics"] if m["source"] == "system"}
    tags = {k.removeprefix("mlflow.tag."): v for k, v in notes.items() if "mlflow.tag." in k}
    tags = {k: v for k, v in tags.items() if v != {"deleted": True} and k != _MODELS}
    info = run.info
    yield from _unequal("job", job, copy["job_name"])
    yield from _unequal("name", info.run_name, tags.get("mlflow.runName", copy["name"]))
    yield from _unequal("user", info.user_id or "unknown", copy["user"])
    yield from _unequal("state", _STATES[info.status], copy["state"])
    yield from _unequal("the task's state", _STATES[info.status], task["state"])
    yield from _unequal("start", info.start_time, _milliseconds(copy["start_time"]))
    if info.end_time is not None and info.status != "RUNNING":
        yield from _unequal("end", info.end_time, _milliseconds(copy["state_at"]))
    if info.lifecycle_stage != notes.get("mlflow.lifecycle", "active"):
        yield f"MLflow's lifecycle stage is {info.lifecycle_stage}"
    params = {
        name: notes.get(f"mlflow.param.{name}", value) for name, value in task["params"].items()
    }
    yield from _unequal_texts("param", run.data.params, params)
    yield from _unequal_texts("tag", {k: v for k, v in run.data.tags.items() if k != _MODELS}, tags)
    yield from _unequal_models(run, notes)
    yield from _unequal_parent(run, copy)
    yield from _unequal_metrics(client, run, task)
    yield from _unequal_inputs(run, task)
    yield from _unequal_artifacts(client, run, task)


def _unequal(what: str, in_mlflow: Any, in_databand: Any) -> Iterator[str]:
    if in_mlflow != in_databand:
        yield f"{what} is {in_mlflow!r} in MLflow and {in_databand!r} in Databand"


def _unequal_texts(
    what: str, in_mlflow: Mapping[str, str], in_databand: Mapping[str, Any]
) -> Iterator[str]:
    for name in sorted({*in_mlflow, *in_databand}):
        ours, copied = in_mlflow.get(name), in_databand.get(name)
        # Secrets are masked in transit, also inside a URI.
        if ours is None or copied is None or (ours != copied and _MASK not in str(copied)):
            yield from _unequal(f"{what} {name!r}", ours, copied)


def _unequal_models(run: "Run", notes: Mapping[str, Any]) -> Iterator[str]:
    """Compare the models of a run that MLflow 2 keeps in a tag that no call sets."""
    ours = {model["model_uuid"] for model in json.loads(run.data.tags.get(_MODELS, "[]"))}
    copied = {
        note["model_uuid"]
        for name, note in notes.items()
        if name.startswith("mlflow.model.") and "model_uuid" in note
    }
    yield from _unequal("models", ours, copied)


def _unequal_parent(run: "Run", copy: Mapping[str, Any]) -> Iterator[str]:
    parent = run.data.tags.get("mlflow.parentRunId")
    root = copy["root_run"]["root_run_uid"]
    if parent is None:
        yield from _unequal("the root run", str(UUID(run.info.run_id)), root)
    elif root == copy["run_uid"]:
        yield f"MLflow has parent {parent}, and Databand none"


def _unequal_metrics(client: "MlflowClient", run: "Run", task: Mapping[str, Any]) -> Iterator[str]:
    copied: dict[str, list[tuple[Any, ...]]] = {}
    linked: dict[str, set[tuple[Any, ...]]] = {}
    for metric in task["metrics"]:
        if metric["source"] == "user":
            point = _point(metric)
            if "model_id" in (metric["value_json"] or {}):
                linked.setdefault(metric["key"], set()).add(point)
            else:
                copied.setdefault(metric["key"], []).append(point)
    for key in sorted({*run.data.metrics, *copied, *linked}):
        points = [
            (_text(m.value), m.timestamp, m.step)
            for m in client.get_metric_history(run.info.run_id, key)
        ]
        # MLflow 3 logs a point again for a model that is logged after it, to link both. Its own
        # history has that point once.
        theirs = Counter(copied.get(key, [])) | Counter(linked.get(key, set()))
        ours = Counter(points)
        if ours != theirs:
            missing, more = ours - theirs, theirs - ours
            yield (
                f"metric {key!r}: Databand lacks {sum(missing.values())} of {len(points)} points "
                f"{sorted(missing)[:3]} and has {sum(more.values())} others {sorted(more)[:3]}"
            )


def _point(metric: Mapping[str, Any]) -> tuple[Any, ...]:
    extra = metric["value_json"] or {}
    value = metric["value_float"] if metric["value_float"] is not None else extra["value"]
    at = extra.get("timestamp", _milliseconds(metric["timestamp"]))
    return _text(value), at, extra.get("step", 0)


def _text(value: Any) -> str:
    """Return a number's text, so that NaN equals NaN. SQL stores keep infinity as the largest double."""
    names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    names |= {repr(1.7976931348623157e308): "Infinity", repr(-1.7976931348623157e308): "-Infinity"}
    text = value if isinstance(value, str) else repr(float(value))
    return names.get(text, text)


def _unequal_inputs(run: "Run", task: Mapping[str, Any]) -> Iterator[str]:
    inputs: list[Any] = getattr(run.inputs, "dataset_inputs", [])  # None in some versions of MLflow
    ours = {f"mlflow:{i.dataset.name}@{i.dataset.digest}" for i in inputs}
    yield from _unequal("datasets", ours, {d["dataset_uri"] for d in task["datasets"]})


def _unequal_artifacts(
    client: "MlflowClient", run: "Run", task: Mapping[str, Any]
) -> Iterator[str]:
    prefix = f"runs:/{run.info.run_id}/"
    copied = {
        t["target_path"].removeprefix(prefix): json.loads(t["data_schema"]).get("size.bytes")
        for t in task["targets"]
    }
    # A model's files are below the model, not below the run.
    copied = {path: size for path, size in copied.items() if not path.startswith("models/")}
    ours = dict(_files(client, run.info.run_id))
    for path in sorted({*ours, *copied}):
        if path not in copied or path not in ours:
            yield f"artifact {path!r} is only in {'MLflow' if path in ours else 'Databand'}"


def _files(
    client: "MlflowClient", run_id: str, folder: str | None = None
) -> Iterator[tuple[str, int | None]]:
    for entry in client.list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from _files(client, run_id, entry.path)
        # No call logs this one: MLflow 2 writes the model's loading path next to a registered
        # model, which is the run's own folder if artifacts are local files.
        elif not entry.path.endswith("/registered_model_meta"):
            yield entry.path, entry.file_size


def _value(metric: Mapping[str, Any]) -> Any:
    value = metric["value_json"] if metric["value_json"] is not None else metric["value_str"]
    # A text longer than Databand's limit is in JSON.
    return value["value"] if isinstance(value, dict) and list(value) == ["value"] else value


def _milliseconds(time: str) -> int:
    moment = datetime.fromisoformat(time)
    return round(moment.timestamp() * 1000)
