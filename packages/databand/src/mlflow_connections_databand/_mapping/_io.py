"""What runs read and write: datasets as Databand's datasets, artifacts as its targets."""

import json
from collections.abc import Mapping
from typing import Any

from ._values import LONGEST, time_of

Data = Mapping[str, Any]


def dataset_row(owner: Data, dataset: Data, at: int) -> dict[str, Any]:
    """Give a dataset that a run read."""
    schema, profile = dataset.get("schema"), dataset.get("profile")
    columns = _columns(schema)
    rows = profile.get("num_rows") if isinstance(profile, Mapping) else None
    shape = None if rows is None and not columns else [rows, len(columns) or None]
    return {
        **owner,
        "operation_path": _source_path(dataset),
        "dataset_uri": f"mlflow:{dataset['name']}@{dataset['digest']}",
        "operation_type": "read",
        "operation_status": "OK",
        "operation_error": None,
        "operation_source": "mlflow",
        "timestamp": time_of(at),
        "value_preview": None if profile is None else _text(profile),
        "data_dimensions": shape,
        "data_schema": {
            "type": str(dataset["source_type"]),
            "columns": list(columns),
            "dtypes": columns,
            "shape": shape,
        },
        "query": None,
        "columns_stats": [],
        "with_partition": None,
    }


def target_row(owner: Data, run_id: str, path: str, size: int | None) -> dict[str, Any]:
    """Give an artifact that a run wrote, under the URI that MLflow itself knows it by."""
    schema: dict[str, Any] = {"type": "mlflow.artifact"}
    if size is not None:
        schema["size.bytes"] = size
    return {
        **owner,
        "target_path": f"runs:/{run_id}/{path}",
        "param_name": None,
        "task_def_uid": None,
        "operation_type": "write",
        "operation_status": "OK",
        "value_preview": None,
        "data_dimensions": None,
        "data_schema": json.dumps(schema),
        "data_hash": None,
    }


def _columns(schema: Any) -> dict[str, str]:
    """Read MLflow's column specification; a tensor's or an unknown schema has no columns."""
    specification = schema.get("mlflow_colspec") if isinstance(schema, Mapping) else None
    if not isinstance(specification, list):
        return {}
    return {
        str(column.get("name", position)): str(column.get("type"))
        for position, column in enumerate(specification)
        if isinstance(column, Mapping)
    }


def _source_path(dataset: Data) -> str:
    """Give where a dataset came from: the URI in its source, else its name and digest."""
    source = dataset.get("source")
    try:
        parsed = json.loads(source) if source else {}
    except ValueError:
        return str(source)[:LONGEST]
    for key in ("uri", "url", "path"):
        if isinstance(parsed, dict) and parsed.get(key):
            return str(parsed[key])[:LONGEST]
    return f"mlflow:{dataset['name']}@{dataset['digest']}"


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value))[:LONGEST]
