"""Shows a pipeline's tasks as they go: lines that change on a terminal, one line a change elsewhere."""

import shlex
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ._history import SUCCEEDED, TaskRun
from ._names import DEFAULT_PIPELINE
from ._plan import Plan

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_WORDS = {
    "SCHEDULED": ("waiting", "dim"),
    "EXECUTING": ("running", "cyan"),
    SUCCEEDED: ("done", "green"),
    "SKIPPED": ("skipped", "dim"),
    "CANCELLED": ("cancelled", "red"),
}
_DEFAULT_ENV = "local"
"""Kedro's own; where a project has another, naming it does no harm."""
_SHORTEST = 0.05
"""Seconds that are shown."""
_LINES = 30
"""How much of a node's traceback is shown at most: its end, where the error is."""


class Progress:
    """Shows states of a pipeline's tasks.

    Args:
        plan: The pipeline.
        console: Where; by default standard error, which holds no one's output.
    """

    def __init__(self, plan: Plan, console: "Console | None" = None) -> None:
        from rich.console import Console

        self._plan = plan
        self.console = console or Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._since: dict[tuple[str, int], float] = {}
        self._shown: dict[str, tuple[str, int]] = {}

    def follow(self, states: Iterable[dict[str, TaskRun]]) -> dict[str, TaskRun]:
        """Show each state as it comes, and give the last one."""
        from rich.live import Live

        last: dict[str, TaskRun] = {}
        if not self.console.is_terminal:
            for last in states:
                self._print_changes(last)
            return last
        # Made anew at each refresh, so that the seconds go on while nothing changes.
        with Live(console=self.console, get_renderable=lambda: self._table(last)):
            for last in states:
                self._note(last)
        return last

    def _print_changes(self, runs: dict[str, TaskRun]) -> None:
        self._note(runs)
        for task in self._plan.tasks:
            run = runs.get(task)
            if run is None or self._shown.get(task) == (run.state, run.id[1]):
                continue
            self._shown[task] = (run.state, run.id[1])
            if run.state != "SCHEDULED":
                self.console.print(self._line(task, run))

    def _table(self, runs: dict[str, TaskRun]) -> "Text":
        from rich.text import Text

        return Text("\n").join(self._line(task, runs.get(task)) for task in self._plan.tasks)

    def _note(self, runs: dict[str, TaskRun]) -> None:
        for task, run in runs.items():
            if run.state == "EXECUTING":
                self._since.setdefault((task, run.id[1]), time.monotonic())

    def _line(self, task: str, run: TaskRun | None) -> "Text":
        from rich.text import Text

        names = self._plan.tasks
        word, style = (
            ("waiting", "dim") if run is None else _WORDS.get(run.state, ("FAILED", "red"))
        )
        seconds = None if run is None else run.seconds
        if run is not None and run.state == "EXECUTING":
            seconds = time.monotonic() - self._since[task, run.id[1]]
        took = f"{seconds:7.1f} s" if seconds and seconds > _SHORTEST else ""
        width = max(map(len, names.values()))
        again = f"  (try {run.id[1]})" if run is not None and run.id[1] > 1 else ""
        # Nothing in a node's name is markup.
        return Text.assemble(
            (f"  {word:<9}", style), (f"{names[task]:<{width}}"), (f"{took}{again}", "dim")
        )


def failure(plan: Plan, runs: dict[str, TaskRun]) -> str:
    """Say what failed, each with its error's own last lines."""
    names = plan.tasks
    found = [runs[task] for task in names if task in runs]
    failed = [run for run in found if run.error]
    if not failed:
        left = [f"{names[r.task]!r} ({r.state.lower()})" for r in found if r.state != SUCCEEDED]
        return f"Not every task succeeded: {', '.join(left)}."
    return "\n\n".join(
        f"{names[run.task]!r} failed, the task {plan.root.beside(run.task)}:\n\n"
        f"{_end_of(run.error, plan.package)}"
        for run in failed
    )


def _end_of(error: str, package: str) -> str:
    """Give a traceback from the project's own code on: what is before it is Kedro's."""
    lines = [line for line in error.rstrip().splitlines() if line.strip()]
    if lines and lines[-1].lstrip().startswith("in function "):
        lines.pop()  # which handler it was, the same for every node
    own = [i for i, line in enumerate(lines) if 'File "' in line and f"/{package}/" in line]
    return "\n".join(f"  {line}" for line in lines[own[0] if own else 0 :][-_LINES:])


def command(plan: Plan, name: str) -> str:
    """Give a command for the same pipeline, with the same configuration."""
    words = ["kedro", "snowflake-mlflow", *name.split()]
    words += [] if plan.pipeline == DEFAULT_PIPELINE else ["--pipeline", plan.pipeline]
    words += [] if plan.env == _DEFAULT_ENV else ["--env", plan.env]
    return shlex.join(words)


def retry_hint(plan: Plan) -> str:
    """Say how to run again what failed."""
    return (
        f"Run it again from there: {command(plan, 'run --retry')}\n"
        f"In SQL: EXECUTE TASK {plan.root.sql} RETRY LAST;"
    )
