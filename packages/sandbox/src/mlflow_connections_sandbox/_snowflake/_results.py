"""The stand-in's own results, in the connector's wire format."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Rows:
    """Columns and rows of a result.

    Attributes:
        columns: The columns' names.
        rows: The values.
        types: Snowflake's wire types of the columns; all text if empty.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    types: Sequence[str] = ()

    def data(self, query: str) -> dict[str, Any]:
        """Return the `data` of the response."""
        types = self.types or ["text"] * len(self.columns)
        return {
            "rowtype": [_column(n, t) for n, t in zip(self.columns, types, strict=True)],
            "rowset": [[_cell(v) for v in row] for row in self.rows],
            "total": len(self.rows),
            "returned": len(self.rows),
            "queryId": query,
            "queryResultFormat": "json",
            "parameters": [{"name": "TIMEZONE", "value": "Etc/UTC"}],
            "statementTypeId": 0,
        }


def status(text: str) -> Rows:
    """Return the result of a DDL statement, one row."""
    return Rows(("status",), [[text]])


def _column(name: str, kind: str) -> dict[str, Any]:
    size = 16777216 if kind in {"text", "variant"} else None
    return {
        "name": name,
        "type": kind,
        "nullable": True,
        "database": "",
        "schema": "",
        "table": "",
        "byteLength": size,
        "length": size,
        "collation": None,
        "precision": 38 if kind == "fixed" else (0 if kind.startswith("timestamp") else None),
        "scale": 0 if kind == "fixed" else (9 if kind.startswith("timestamp") else None),
    }


def _cell(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        # The wire format of an LTZ timestamp is seconds.
        return f"{value.timestamp():.9f}"
    return str(value)
