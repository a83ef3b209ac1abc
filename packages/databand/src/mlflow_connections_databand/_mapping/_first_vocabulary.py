"""The vocabulary of version 0.1, before the package `events` existed: a spool may still contain it."""

import json
from collections.abc import Mapping
from typing import Any

from mlflow_connections_outbox import Event

_KINDS = {
    "run": "run_started",
    "log": "logged",
    "delete_tag": "tag_deleted",
    "status": "run_updated",
    "lifecycle": "stage_changed",
    "inputs": "inputs_logged",
    "model": "model_logged",
    "artifacts": "artifacts_uploaded",
}


def translated(event: Event) -> Event:
    """Return an event in today's vocabulary; one that already uses it is unchanged."""
    kind = _KINDS.get(event.kind)
    if kind is None:
        return event
    data = {k: v for k, v in event.data.items() if k not in {"of", "attempt"}}
    if context := _context(event.data):
        data["run"] = context
    if kind == "inputs_logged" and "datasets" in data:
        data["datasets"] = [_dataset(dataset) for dataset in data["datasets"]]
    if kind == "inputs_logged" and "models" in data:
        models = data["models"]
        if models and models[0]["role"] == "output":
            kind = "outputs_logged"
            data["models"] = [[model["model_id"], model["step"]] for model in models]
        else:
            data["models"] = [model["model_id"] for model in models]
    if kind == "model_logged" and "model_id" not in data:
        context = data.pop("run", {})
        kind, data = "model_recorded", {"mlmodel": data, "run": context}
    return event._replace(kind=kind, data=data)


def _context(data: Mapping[str, Any]) -> dict[str, Any]:
    of = data.get("of", {})
    names = {
        "job": "experiment_name",
        "started": "started",
        "parent": "parent",
        "root": "root",
        "parent_attempt": "parent_extra",
        "root_attempt": "root_extra",
    }
    context = {names[name]: value for name, value in of.items() if name in names}
    if "attempt" in data:
        context["extra"] = data["attempt"]
    return context


def _dataset(dataset: Mapping[str, Any]) -> dict[str, Any]:
    return {**dataset, "schema": _text(dataset["schema"]), "profile": _text(dataset["profile"])}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)
