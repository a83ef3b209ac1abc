"""Follows one run of a pipeline's tasks until it has ended."""

import time
from collections.abc import Iterator

from ._history import ENDED, SUCCEEDED, History, TaskRun, Try
from ._plan import Plan

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 5.0
"""Seconds between two looks: soon at first, and rarely at what takes long."""


class Watch:
    """Follows one run of the graph.

    Args:
        history: Whom to ask.
        plan: The pipeline.
        before: The tries that are others'.
    """

    def __init__(self, history: History, plan: Plan, before: set[Try]) -> None:
        self._history = history
        self._plan = plan
        self._before = before
        self._last_attempt = 0

    def states(self) -> Iterator[dict[str, TaskRun]]:
        """Give again and again, with a pause between, the last run of each task by its name."""
        pause = _FIRST_WAIT
        while True:
            runs = self._newest()
            yield runs
            if self._has_ended(runs):
                return
            time.sleep(pause)
            pause = min(pause * 1.1, _LONGEST_WAIT)

    def _newest(self) -> dict[str, TaskRun]:
        runs = self._history.runs()
        ours = [run.id for run in runs if run.id not in self._before]
        if not ours:
            return {}
        group = ours[0][0]
        if not self._last_attempt:
            self._last_attempt = min(ours)[1] + self._plan.settings.retries
        found: dict[str, TaskRun] = {}
        for run in sorted((run for run in runs if run.id[0] == group), key=lambda run: run.id):
            found[run.task] = run
        return found

    def _has_ended(self, runs: dict[str, TaskRun]) -> bool:
        end, root = (runs.get(name.object) for name in (self._plan.end, self._plan.root))
        if root is not None and root.state in ENDED and root.state != SUCCEEDED:
            return True
        attempt = max((run.id[1] for run in runs.values()), default=0)
        if end is None or end.state not in ENDED or end.id[1] < attempt:
            return False
        return has_succeeded(self._plan, runs) or attempt >= self._last_attempt


def has_succeeded(plan: Plan, runs: dict[str, TaskRun]) -> bool:
    """Whether all that ran did, up to the end. What is not told of succeeded in an earlier try."""
    return plan.end.object in runs and all(run.state == SUCCEEDED for run in runs.values())
