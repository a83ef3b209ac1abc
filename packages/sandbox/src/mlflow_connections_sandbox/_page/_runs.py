"""The newest runs of the MLflow server, whichever stand-in received them."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import requests

from mlflow_connections_sandbox._mlflow_backend import MlflowBackend
from mlflow_connections_sandbox._tables import Cell, Row, Table, code, duration, moment, state

_API = "/api/2.0/mlflow"
_RUNS = 20
_EXPERIMENTS = 1000
_METRICS = 3


def newest_runs(mlflow: MlflowBackend) -> Table:
    """Fetch the newest runs; each links to its page in MLflow's UI."""
    try:
        rows = _rows(mlflow)
    except requests.RequestException as error:
        return _table([], f"The MLflow server does not answer: {type(error).__name__}.")
    return _table(rows, "No run yet.")


def _table(rows: list[Row], empty: str) -> Table:
    columns = ("Started", "Run", "Experiment", "State", "Took", "Metrics")
    return Table("Newest runs", columns, rows, empty)


def _rows(mlflow: MlflowBackend) -> list[Row]:
    asked = {"max_results": _EXPERIMENTS, "order_by": ["last_update_time DESC"]}
    found = _ask(mlflow, "experiments", asked).get("experiments", [])
    names = {e["experiment_id"]: e["name"] for e in found}
    if not names:
        return []
    # Without an order, the newest come first.
    asked = {"experiment_ids": list(names), "max_results": _RUNS}
    runs = _ask(mlflow, "runs", asked).get("runs", [])
    return [_row(mlflow.url, run, names[run["info"]["experiment_id"]]) for run in runs]


def _ask(mlflow: MlflowBackend, what: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    with mlflow.call("POST", f"{_API}/{what}/search", json=asked) as answer:
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


def _row(url: str, run: Mapping[str, Any], experiment: str) -> Row:
    info = run["info"]
    page = f"{url}/#/experiments/{quote(info['experiment_id'], safe='')}"
    begun, ended = (int(info.get(when, 0)) / 1000 for when in ("start_time", "end_time"))
    return Row(
        info["run_id"],
        (
            moment(begun),
            Cell(
                info.get("run_name") or info["run_id"],
                href=f"{page}/runs/{quote(info['run_id'], safe='')}",
            ),
            Cell(experiment, href=page),
            state(info["status"]),
            duration(ended - begun) if ended else Cell(""),
            code(_metrics(run.get("data", {}).get("metrics", []))),
        ),
    )


def _metrics(metrics: list[Mapping[str, Any]]) -> str:
    first = ", ".join(f"{m['key']} {_value(m['value'])}" for m in metrics[:_METRICS])
    more = len(metrics) - _METRICS
    return f"{first}, {more} more" if more > 0 else first


def _value(value: Any) -> str:
    # MLflow writes values for which JSON has no number as text: NaN, Infinity.
    return value if isinstance(value, str) else f"{value:.4g}"
