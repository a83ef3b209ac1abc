"""What a store has seen of its runs: which the destination knows, their params, experiments' names."""

import os
import threading
import weakref
from collections import OrderedDict
from typing import Any, NamedTuple

_LIMIT = 10_000
"""How many runs are remembered. A forgotten one is only announced again."""


class Run(NamedTuple):
    """A run that was announced.

    Attributes:
        params: All that this process logged, masked, for the record at the run's end.
        attempt: The dbnd task attempt that the run is a part of, None for a run of its own.
        of: What every later event of the run repeats, so that a sink need not remember it: `job`,
            `started` (ms), and for a nested run `parent` and `root`, with
            `parent_attempt` and `root_attempt` where these are a part of a dbnd task.
    """

    params: dict[str, str]
    attempt: dict[str, str] | None
    of: dict[str, Any]


class Runs:
    """Remembers, within limits. Safe for threads."""

    def __init__(self) -> None:
        self._announced: OrderedDict[str, Run] = OrderedDict()
        self._seen: OrderedDict[str, Any] = OrderedDict()
        self._experiments: dict[str, str] = {}
        self.lock = threading.RLock()
        _living.add(self)

    def announce(self, run_id: str, run: Run) -> None:
        """Remember a run that the destination was told of."""
        with self.lock:
            self._announced[run_id] = run
            self._seen.pop(run_id, None)
            _shorten(self._announced, _LIMIT)

    def get(self, run_id: str) -> Run | None:
        """Give an announced run."""
        return self._announced.get(run_id)

    def see(self, run_id: str, entity: Any) -> None:
        """Keep what MLflow answered for a run that may soon be resumed."""
        if run_id not in self._announced:
            with self.lock:
                self._seen[run_id] = entity
                _shorten(self._seen, 100)

    def seen(self, run_id: str) -> Any:
        """Give what MLflow answered last; None where nobody asked."""
        return self._seen.get(run_id)

    def name_experiment(self, experiment: Any) -> None:
        """Keep an experiment's name from an answer of MLflow's; None is no answer."""
        if experiment is not None:
            self._experiments[str(experiment.experiment_id)] = experiment.name

    def experiment_name(self, experiment_id: str) -> str | None:
        """Give a name that was kept."""
        return self._experiments.get(str(experiment_id))


def _shorten(kept: "OrderedDict[str, Any]", limit: int) -> None:
    while len(kept) > limit:
        kept.popitem(last=False)


_living: "weakref.WeakSet[Runs]" = weakref.WeakSet()


def _after_fork() -> None:
    # A thread that held a lock is not in the child, and would never let go of it.
    for runs in _living:
        runs.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
