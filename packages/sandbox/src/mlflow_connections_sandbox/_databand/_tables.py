"""What the sandbox's page shows of the tracker."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from mlflow_connections_sandbox._tables import Cell, Row, Table, moment, number, state

_COUNTED = ("tasks", "params", "metrics", "data")


def runs(newest: Iterable[Mapping[str, Any]]) -> Table:
    """Show runs, newest first."""
    rows = [
        Row(
            run["uid"],
            (
                moment(datetime.fromisoformat(run["start_time"]).timestamp()),
                Cell(run["name"]),
                Cell(run["job_name"]),
                state(run["state"]),
                *(number(run[counted]) for counted in _COUNTED),
            ),
        )
        for run in newest
    ]
    columns = ("Started", "Run", "Job", "State", "Tasks", "Params", "Metrics", "Data")
    return Table("Runs it was told of", columns, rows, "It was told of no run yet.")
