"""Measuring two things side by side, and printing how they compare.

Machines are noisy, and so is a number alone: A and B are measured in turns within one run, and what
counts is the ratio of their medians.
"""

import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One line of a benchmark's result.

    Attributes:
        what: What was measured.
        plain: The median without our part, in `unit`; None where nothing compares.
        ours: The median with it.
        unit: Of both: `s`, `ms`, `µs`, `MB`, `requests`.
        aim: What the project aims at, in words.
        met: Whether the measurement meets it; None where the aim is for people to judge.
    """

    what: str
    plain: float | None
    ours: float
    unit: str
    aim: str = ""
    met: bool | None = None


def children_seconds() -> float:
    """Return the CPU time that ended child processes have used so far: a clock that waits for no one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def interleave(
    plain: Callable[[], object],
    ours: Callable[[], object],
    rounds: int = 15,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[float], list[float]]:
    """Call both in turns, alternating the first one; return the seconds of each call."""
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
    """Make one measurable thing of many calls, for what takes microseconds."""

    def repeated() -> None:
        for _ in range(number):
            call()

    return repeated


def table(rows: Sequence[Row]) -> str:
    """Lay the rows out, with the ratio of ours to plain."""
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
