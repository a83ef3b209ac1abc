"""The content of the page as plain data, which the page only renders."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow_connections_sandbox._stand_in import StandIn, exports
from mlflow_connections_sandbox._tables import (
    NEWEST,
    Cell,
    Row,
    Table,
    code,
    duration,
    moment,
    path,
    status,
)

_GUIDES = "https://github.com/mlflow-connections/mlflow-connections/blob/main/docs"


def view(mlflow_url: str, folder: Path, stand_ins: Sequence[StandIn]) -> dict[str, Any]:
    """Return the state of the sandbox, without the runs, which must be fetched from MLflow."""
    return {
        "mlflow_url": mlflow_url,
        "folder": str(folder),
        "stand_ins": [_stand_in(one) for one in stand_ins],
    }


def shown(table: Table) -> dict[str, Any]:
    """Return a table as plain data."""
    return {
        "key": table.title,
        "title": table.title,
        "columns": table.columns,
        "empty": table.empty,
        "rows": [
            {"key": row.key, "cells": [_cell(cell) for cell in row.cells]} for row in table.rows
        ],
    }


def _cell(cell: Cell) -> dict[str, str]:
    """Return a cell without its empty fields: hundreds of cells are sent twice a second."""
    return {name: value for name, value in cell._asdict().items() if value}


def _stand_in(one: StandIn) -> dict[str, Any]:
    tables = [*one.tables(), _requests(one)]
    counts = sorted(one.journal.counts().items())
    return {
        "key": one.name,
        "title": one.title or one.name,
        "url": one.url,
        "is_running": one.is_running,
        "guide": f"{_GUIDES}/{one.guide}.md",
        "total": sum(count for _, count in counts),
        "counts": [
            {"key": str(s), "text": status(s).text, "kind": status(s).kind, "count": n}
            for s, n in counts
        ],
        "pasted": [
            {"key": where, "title": where, "text": text} for where, text in pasted(one).items()
        ],
        "tables": [shown(table) for table in tables],
    }


def _requests(one: StandIn) -> Table:
    rows = [
        Row(
            str(number),
            (
                moment(r.at),
                Cell(r.method),
                path(r.path),
                status(r.status, is_fault=r.is_fault),
                duration(r.seconds),
                code(r.reason),
            ),
        )
        for number, r in one.journal.newest(NEWEST)
    ]
    columns = ("Time", "Method", "Path", "Status", "Took", "Reason")
    return Table("Requests", columns, rows, "Nothing arrived yet.")


def pasted(one: StandIn) -> Mapping[str, str]:
    """Return texts to paste to reach a stand-in, by the place they belong in."""
    told = [f"--option {name}={value}" for name, value in one.options.items()]
    written = [f"    {name}: {value}" for name, value in one.options.items()]
    lines = ["server:", f"  tracking_uri: {one.name}"]
    if written:
        lines += ["  connection:", *written]
    return {
        "In a shell": "\n".join(exports(one.environment())),
        "Then run a script": " ".join(
            ["mlflow-connections run", *told, one.name, "-- python train.py"]
        ),
        "Or a Kedro project: conf/base/mlflow.yml": "\n".join(lines),
    }
