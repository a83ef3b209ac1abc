"""The outboxes of this user: events that wait on this machine for Databand, `durable`'s server or a mirror."""

import threading
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from mlflow_connections_sandbox._tables import Cell, Row, Table, code, moment, number

_MODULE = "mlflow_connections_outbox.admin"
_SHARE = 10
"""Counting waiting events reads their files, so it is repeated only after this many times its duration."""

_COLUMNS = (
    *("Destination", "Waiting", "Since", "Delivered", "Rejected", "Set aside", "State", "Reason"),
)


class Outboxes:
    """Reads the outboxes, if the package for them is installed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._table = _table([], "The package mlflow-connections-outbox is not installed.")
        self._until = 0.0

    def table(self) -> Table:
        """Read the number of waiting events for each destination."""
        with self._lock:
            begun = time.monotonic()
            if begun >= self._until:
                self._table = _read()
                ended = time.monotonic()
                self._until = ended + _SHARE * (ended - begun)
            return self._table


def _read() -> Table:
    try:
        admin = import_module(_MODULE)
    except ImportError:
        return _table([], "The package mlflow-connections-outbox is not installed.")
    try:
        found = [report.plain() for report in admin.reports()]
    except OSError as error:
        return _table([], f"The outboxes cannot be read: {error.strerror}.")
    return _table([_row(each) for each in found], "No outbox on this machine.")


def _table(rows: Sequence[Row], empty: str) -> Table:
    return Table("Outboxes", _COLUMNS, rows, empty)


def _row(found: dict[str, Any]) -> Row:
    state = "unusable" if found["problem"] else found["state"]
    oldest = found["oldest"]
    is_bad = bool(found["problem"] or found["reason"])
    return Row(
        found["folder"],
        (
            Cell(found["name"] if not found["url"] else f"{found['name']} at {found['url']}"),
            number(found["events"])._replace(kind="busy" if found["events"] else "number"),
            moment(oldest) if oldest else Cell(""),
            number(found["delivered"]),
            number(found["rejected"])._replace(kind="bad" if found["rejected"] else "number"),
            number(found["aside"])._replace(kind="warn" if found["aside"] else "number"),
            Cell(state or "new", "bad" if is_bad else "good" if state == "ok" else ""),
            code(found["problem"] or found["reason"] or ""),
        ),
    )
