"""The runs, experiments and logged models that a store has used."""

import os
import threading
import weakref
from collections import OrderedDict
from typing import Any, NamedTuple

from mlflow_connections_events.vocabulary import RunContext

_MAX_RUNS = 10_000
"""The number of remembered runs. A forgotten one is only announced again."""
_MAX_UNANNOUNCED = 100


class AnnouncedRun(NamedTuple):
    """A run whose announcement is in the event log.

    Attributes:
        params: All params that this process logged, redacted, to be repeated at the run's end.
        context: The part of the run that later events repeat.
    """

    params: dict[str, str]
    context: RunContext


class RunCache:
    """The runs and experiments that a store has used. Bounded, safe for threads and fork."""

    def __init__(self) -> None:
        self._announced: OrderedDict[str, AnnouncedRun] = OrderedDict()
        self._seen: OrderedDict[str, Any] = OrderedDict()
        self._experiments: dict[str, str] = {}
        self._models: OrderedDict[str, str] = OrderedDict()
        self.lock = threading.RLock()
        _living.add(self)

    def announce(self, run_id: str, run: AnnouncedRun) -> None:
        """Remember an announced run."""
        with self.lock:
            self._announced[run_id] = run
            self._seen.pop(run_id, None)
            _shorten(self._announced, _MAX_RUNS)

    def get(self, run_id: str) -> AnnouncedRun | None:
        """Return an announced run, or None."""
        return self._announced.get(run_id)

    def forget_announced(self) -> None:
        """Forget all announced runs: another event log receives the next events."""
        with self.lock:
            self._announced.clear()

    def see(self, run_id: str, entity: Any) -> None:
        """Remember the store's entity of a run that may be resumed soon."""
        if run_id not in self._announced:
            with self.lock:
                self._seen[run_id] = entity
                _shorten(self._seen, _MAX_UNANNOUNCED)

    def seen(self, run_id: str) -> Any:
        """Return the last entity of a run that was not announced, or None."""
        return self._seen.get(run_id)

    def see_model(self, model_id: str, run_id: str | None) -> None:
        """Remember the stream of a logged model: its run, or itself if it has none."""
        with self.lock:
            self._models[model_id] = run_id or model_id
            _shorten(self._models, _MAX_RUNS)

    def stream_of_model(self, model_id: str) -> str | None:
        """Return the stream of a logged model, or None if it was not seen."""
        return self._models.get(model_id)

    def name_experiment(self, experiment_id: Any, name: str) -> None:
        """Remember the name of an experiment."""
        self._experiments[str(experiment_id)] = name

    def experiment_name(self, experiment_id: Any) -> str | None:
        """Return the name of an experiment, or None."""
        return self._experiments.get(str(experiment_id))


def _shorten(kept: "OrderedDict[str, Any]", limit: int) -> None:
    while len(kept) > limit:
        kept.popitem(last=False)


_living: "weakref.WeakSet[RunCache]" = weakref.WeakSet()


def _after_fork() -> None:
    # A thread that held a lock does not exist in the child, so the lock would never be released.
    for runs in _living:
        runs.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
