"""Measure two things side by side, and print the comparison.

Machines are noisy, and a number alone means little: A and B are measured alternately within one
run, and the ratio of their medians is the result.
"""

import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One line of a benchmark's result.

    Attributes:
        what: The measured operation.
        plain: The median without our part, in `unit`; None if there is nothing to compare with.
        ours: The median with it.
        unit: The unit of both: `s`, `ms`, `µs`, `MB`, `requests`.
        aim: The project's aim, in words.
        met: Whether the measurement meets it; None if people have to judge.
    """

    what: str
    plain: float | None
    ours: float
    unit: str
    aim: str = ""
    met: bool | None = None


def children_seconds() -> float:
    """Return the CPU time that ended child processes have used so far, which does not depend on other load."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def interleave(
    plain: Callable[[], object],
    ours: Callable[[], object],
    rounds: int = 15,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[float], list[float]]:
    """Call both alternately, starting with each in turn; return the seconds of each call."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        order = ((0, plain), (1, ours)) if turn % 2 == 0 else ((1, ours), (0, plain))
        for index, call in order:
            begun = clock()
            call()
            times[index].append(clock() - begun)
    return times


def median(times: Sequence[float], factor: float = 1.0) -> float:
    """Return the median, times a factor (1e6 for microseconds)."""
    return statistics.median(times) * factor


def per_call(call: Callable[[], object], number: int = 2000) -> Callable[[], None]:
    """Combine many calls into one measurement, for operations of microseconds."""

    def repeated() -> None:
        for _ in range(number):
            call()

    return repeated


def table(rows: Sequence[Row]) -> str:
    """Format the rows, with the ratio of ours to plain."""
    cells = [("what", "plain", "ours", "ratio", "aim", "")]
    for row in rows:
        plain = "" if row.plain is None else f"{row.plain:.4g} {row.unit}"
        ratio = "" if not row.plain else f"{row.ours / row.plain:.3f}"
        met = "" if row.met is None else ("met" if row.met else "NOT MET")
        cells.append((row.what, plain, f"{row.ours:.4g} {row.unit}", ratio, row.aim, met))
    widths = [max(len(line[i]) for line in cells) for i in range(6)]
    return "\n".join(
        "  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in cells
    )
