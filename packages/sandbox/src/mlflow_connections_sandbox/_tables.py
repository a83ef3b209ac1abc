"""Tables that stand-ins show on the sandbox's page.

All values are text, so the page that renders them needs no knowledge of their meaning.
"""

import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

NEWEST = 50
"""The maximum number of rows of a table."""

LONGEST = 400
"""The maximum number of characters shown of a text."""

Kind = Literal["", "code", "path", "number", "good", "busy", "warn", "bad"]
"""The look of a cell: source code, a path, a number, or good to bad news."""


class Cell(NamedTuple):
    """One value.

    Attributes:
        text: The text.
        kind: Its look.
        href: Its link; none if empty.
    """

    text: str
    kind: Kind = ""
    href: str = ""


class Row(NamedTuple):
    """One row.

    Attributes:
        key: Identifies it among the table's rows, now and later.
        cells: One for each column.
    """

    key: str
    cells: tuple[Cell, ...]


class Table(NamedTuple):
    """A table of the page.

    Attributes:
        title: Its heading.
        columns: The columns' headings.
        rows: The newest first.
        empty: The text if there are no rows.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    empty: str


def code(text: str) -> Cell:
    """Show the beginning of source code on one line."""
    # Cut before and after: a statement may hold megabytes, and most of a text may be space.
    line = " ".join(text[: 4 * LONGEST].split())
    is_whole = len(text) <= 4 * LONGEST and len(line) <= LONGEST
    return Cell(line if is_whole else f"{line[:LONGEST]}…", "code")


def path(text: str) -> Cell:
    """Show a path on one line, shortened at its beginning."""
    return Cell(text if len(text) <= LONGEST else f"…{text[-LONGEST:]}", "path")


def number(value: float) -> Cell:
    """Show a count."""
    return Cell(f"{value:,}", "number")


def moment(at: float) -> Cell:
    """Show a time of this machine's clock, given in seconds since the epoch."""
    try:
        then = time.localtime(at)
    except (OverflowError, OSError, ValueError):
        # Clients choose the times of their runs.
        return Cell(f"{at:.0f}", "number")
    return Cell(time.strftime("%Y-%m-%d %H:%M:%S", then), "number")


def duration(seconds: float) -> Cell:
    """Show a duration."""
    if seconds < 1:
        return Cell(f"{seconds * 1000:.0f} ms", "number")
    if seconds < 60:
        return Cell(f"{seconds:.1f} s", "number")
    return Cell(f"{seconds // 60:.0f} min {seconds % 60:.0f} s", "number")


def status(code: int, *, is_fault: bool = False) -> Cell:
    """Show an HTTP status; 0 is a connection that was cut."""
    text = str(code) if code else "cut"
    kind: Kind = "good"
    if code == 0 or code >= 500:
        kind = "bad"
    elif code >= 400:
        kind = "warn"
    return Cell(f"{text} fault" if is_fault else text, kind)


_STATES: dict[str, Kind] = {
    "FINISHED": "good",
    "SUCCESS": "good",
    "RUNNING": "busy",
    "SCHEDULED": "busy",
    "CANCELLED": "warn",
    "SHUTDOWN": "warn",
    "KILLED": "bad",
    "FAILED": "bad",
}


def state(name: str) -> Cell:
    """Show the state of a run, in MLflow's words or Databand's."""
    return Cell(name.lower(), _STATES.get(name, ""))
