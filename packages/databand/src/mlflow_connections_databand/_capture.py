"""Capture: each call that MLflow has accepted becomes an event, without its caller ever noticing."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mlflow_connections_outbox import Event

from . import _snapshot as snapshot
from ._artifacts import Owner, own
from ._dbnd_task import current_attempt
from ._delegate import Arguments, Record, capture
from ._runs import Run, Runs

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
"""How long the end of a run waits for the rest to be delivered, at most."""

_ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})


class Kept(Protocol):
    """What capture needs of an outbox."""

    def append(self, event: Event) -> None:
        """Keep an event; never raises."""

    def flush(self, timeout: float) -> int:
        """Wait, never long, until all is delivered."""


class Recorder:
    """Captures the calls of one store.

    Args:
        store: The store that MLflow's answers come from.
        outbox: Takes the events.
        while_true: Nothing is captured while this says no.
    """

    def __init__(
        self, store: Any, outbox: Kept, while_true: Callable[[], bool] = lambda: True
    ) -> None:
        self.store = store
        self.runs = Runs()
        self._outbox = outbox
        self._while_true = while_true
        self._failed = False

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Give the capturing function for each method of the store that is captured, by name."""
        records: dict[str, Callable[[Arguments, Any], None]] = {
            "create_experiment": self._create_experiment,
            "get_experiment": lambda _, found: self.runs.name_experiment(found),
            "get_experiment_by_name": lambda _, found: self.runs.name_experiment(found),
            "get_run": self._get_run,
            "create_run": self._create_run,
            "update_run_info": self._update_run,
            "delete_run": lambda a, _: self.emit(a["run_id"], "lifecycle", {"stage": "deleted"}),
            "restore_run": lambda a, _: self.emit(a["run_id"], "lifecycle", {"stage": "active"}),
            "log_metric": lambda a, _: self._log(a["run_id"], metrics=[a["metric"]]),
            "log_param": lambda a, _: self._log(a["run_id"], params=[a["param"]]),
            "set_tag": lambda a, _: self._log(a["run_id"], tags=[a["tag"]]),
            "log_batch": lambda a, _: self._log(a["run_id"], a["metrics"], a["params"], a["tags"]),
            "delete_tag": lambda a, _: self.emit(a["run_id"], "delete_tag", {"key": a["key"]}),
            "log_metric_async": lambda a, r: self._later(r, a["run_id"], metrics=[a["metric"]]),
            "log_param_async": lambda a, r: self._later(r, a["run_id"], params=[a["param"]]),
            "set_tag_async": lambda a, r: self._later(r, a["run_id"], tags=[a["tag"]]),
            "log_batch_async": lambda a, r: self._later(
                r, a["run_id"], a["metrics"], a["params"], a["tags"]
            ),
            "log_inputs": self._log_inputs,
            "log_outputs": self._log_outputs,
            "record_logged_model": lambda a, _: self.emit(
                a["run_id"], "model", snapshot.recorded_model(a["mlflow_model"])
            ),
            "create_logged_model": lambda _, model: self._model(model),
            "get_logged_model": lambda _, model: self._own_model(model),
            "finalize_logged_model": lambda _, model: self._model(model),
        }
        return {
            name: capture(method, self.guarded(record))
            for name, record in records.items()
            if (method := getattr(self.store, name, None)) is not None
        }

    def emit(self, run_id: str, kind: str, data: dict[str, Any]) -> None:
        """Keep one event of a run, after the run itself was announced."""
        run = self.runs.get(run_id) or self._announce_unknown(run_id)
        if run.attempt is not None:
            data["attempt"] = run.attempt
        if kind != "log" or "params" in data:
            data["of"] = run.of
        self._append(run_id, kind, data)

    def _append(self, run_id: str, kind: str, data: dict[str, Any]) -> None:
        self._outbox.append(Event(run_id, kind, time.time_ns() // 1_000_000, data))

    def guarded(self, record: Callable[[Arguments, Any], None]) -> Record:
        """Make a record that never raises, and does nothing while duplication is off."""

        def guarded(arguments: Callable[[], Arguments], result: Any) -> None:
            try:
                if self._while_true():
                    record(arguments(), result)
            except Exception:
                # A copy must never fail the call that it copies. Told once: a defect here would
                # otherwise fill the log of a training.
                if not self._failed:
                    self._failed = True
                    logger.warning(
                        "A call that MLflow accepted could not be copied to Databand; MLflow has "
                        "it. This is a defect of mlflow-connections-databand, please report it.",
                        exc_info=True,
                    )

        return guarded

    # ----- runs

    def _create_experiment(self, arguments: Arguments, experiment_id: Any) -> None:
        self.runs.name_experiment(_Named(str(experiment_id), arguments["name"]))

    def _create_run(self, _: Arguments, run: Any) -> None:
        own(run.info.artifact_uri, Owner(self, run.info.run_id))
        self._announce(run, is_resumed=False)

    def _get_run(self, _: Arguments, run: Any) -> None:
        own(run.info.artifact_uri, Owner(self, run.info.run_id))
        self.runs.see(run.info.run_id, run)

    def _announce_unknown(self, run_id: str) -> Run:
        # A run that another process or an earlier one created: the tracker may not know it.
        with self.runs.lock:
            known = self.runs.get(run_id)
            return known or self._announce(
                self.runs.seen(run_id) or self.store.get_run(run_id), is_resumed=True
            )

    def _announce(self, entity: Any, is_resumed: bool) -> Run:
        data = snapshot.run(entity, self._experiment_name(entity.info.experiment_id))
        data["resumed"] = is_resumed
        params = {k: snapshot.masked(k, v) for k, v in entity.data.params.items()}
        data["of"] = of = self._of(data)
        run = Run(params, None if "parent" in of else current_attempt(), of)
        self.runs.announce(entity.info.run_id, run)
        if params:
            data["params"] = dict(params)
        if run.attempt:
            data["attempt"] = run.attempt
        self._append(entity.info.run_id, "run", data)
        return run

    def _of(self, data: Mapping[str, Any]) -> dict[str, Any]:
        job = data["experiment_name"] or f"experiment {data['experiment_id']}"
        started = data["start_time"] or time.time_ns() // 1_000_000
        of: dict[str, Any] = {"job": job, "started": started}
        if parent_id := data["parent"]:
            parent = self.runs.get(parent_id) or self._announce_unknown(parent_id)
            of["parent"] = parent_id
            of["root"] = parent.of.get("root", parent_id)
            if parent.attempt:
                of["parent_attempt"] = parent.attempt
            if root := parent.attempt or parent.of.get("root_attempt"):
                of["root_attempt"] = root
        return of

    def _experiment_name(self, experiment_id: str) -> str | None:
        if self.runs.experiment_name(experiment_id) is None:
            # Once per experiment and process, and only where no earlier answer told its name.
            self.runs.name_experiment(self.store.get_experiment(experiment_id))
        return self.runs.experiment_name(experiment_id)

    def _update_run(self, arguments: Arguments, info: Any) -> None:
        run_id = arguments["run_id"]
        if name := arguments.get("run_name"):
            self.emit(run_id, "log", {"tags": {"mlflow.runName": name}})
        if arguments.get("run_status") is None:
            return
        data: dict[str, Any] = {"status": info.status, "end_time": info.end_time}
        run = self.runs.get(run_id)
        ended = info.status in _ENDED
        if ended and run is not None and run.params:
            data["params"] = dict(run.params)
        self.emit(run_id, "status", data)
        # Waiting for each of a hundred nested runs would be waiting long.
        if ended and not (run is not None and "parent" in run.of):
            self._outbox.flush(FLUSH_SECONDS)

    # ----- what runs log

    def _log(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        self._emit_log(run_id, _log_data(metrics, params, tags))

    def _emit_log(self, run_id: str, data: dict[str, Any]) -> None:
        if data:
            self.emit(run_id, "log", data)
        if params := data.get("params"):
            run = self.runs.get(run_id)
            if run is not None:
                run.params.update(params)

    def _later(
        self, operations: Any, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()
    ) -> None:
        """Keep what was handed to MLflow's queue, once MLflow has written it.

        Its values are copied now: MLflow extends the lists of its callers.
        """
        data = _log_data(metrics, params, tags)
        futures = list(getattr(operations, "_operation_futures", None) or ())
        if not futures:
            self._emit_log(run_id, data)
            return
        record = self.guarded(lambda _, __: self._emit_log(run_id, data))
        unwritten = set(futures)
        lock = threading.Lock()

        def when_written(future: Any) -> None:
            with lock:
                if future.cancelled() or future.exception() is not None:
                    return
                unwritten.discard(future)
                is_whole = not unwritten
            if is_whole:
                record(dict, None)

        for future in futures:
            future.add_done_callback(when_written)

    def _log_inputs(self, arguments: Arguments, _: Any) -> None:
        data: dict[str, Any] = {}
        if datasets := arguments.get("datasets"):
            data["datasets"] = [snapshot.dataset(entity) for entity in datasets]
        if models := arguments.get("models"):
            data["models"] = [{"model_id": m.model_id, "role": "input"} for m in models]
        if data:
            self.emit(arguments["run_id"], "inputs", data)

    def _log_outputs(self, arguments: Arguments, _: Any) -> None:
        models = [
            {"model_id": m.model_id, "role": "output", "step": m.step} for m in arguments["models"]
        ]
        self.emit(arguments["run_id"], "inputs", {"models": models})

    def _own_model(self, model: Any) -> None:
        if model.source_run_id:
            prefix = f"models/{model.model_id}"
            own(model.artifact_location, Owner(self, model.source_run_id, prefix))

    def _model(self, model: Any) -> None:
        self._own_model(model)
        if model.source_run_id:
            self.emit(model.source_run_id, "model", snapshot.logged_model(model))


class _Named:
    def __init__(self, experiment_id: str, name: str) -> None:
        self.experiment_id = experiment_id
        self.name = name


def _log_data(metrics: Any, params: Any, tags: Any) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if metrics:
        data["metrics"] = snapshot.metrics(metrics)
    if params:
        data["params"] = snapshot.pairs(params)
    if tags:
        data["tags"] = snapshot.pairs(tags)
    return data
