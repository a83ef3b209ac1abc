"""The tables of an account on the sandbox's page."""

from mlflow_connections_sandbox._journal import RingLog
from mlflow_connections_sandbox._snowflake.external._external_functions import BatchDelivery
from mlflow_connections_sandbox._tables import (
    NEWEST,
    Cell,
    Row,
    Table,
    code,
    duration,
    moment,
    number,
    path,
    status,
)

from ._journal import Statements


def statements(executed: Statements) -> Table:
    """Return the table of the newest statements, whose secrets are masked."""
    rows = [
        Row(
            str(n),
            (
                moment(e.at),
                code(e.sql),
                Cell(e.role),
                Cell(str(e.error), "bad") if e.error else Cell("done", "good"),
                duration(e.seconds),
            ),
        )
        for n, e in executed.newest(NEWEST)
    ]
    columns = ("Time", "Statement", "Role", "Outcome", "Took")
    return Table("Statements", columns, rows, "No statement yet.")


def calls(deliveries: RingLog[BatchDelivery]) -> Table:
    """Return the table of the newest requests of external functions to a gateway."""
    rows = [
        Row(
            str(n),
            (
                Cell(d.function),
                number(d.rows),
                Cell(d.method),
                path(d.url.partition("?")[0]),
                status(d.status),
            ),
        )
        for n, d in deliveries.newest(NEWEST)
    ]
    columns = ("Function", "Rows", "Method", "Address", "Status")
    return Table("Calls of external functions", columns, rows, "No call yet.")
