"""The recorder: accepted calls of experiments, runs and logged models become events."""

import functools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from mlflow_connections_events import entities
from mlflow_connections_events._mlflow import write_futures
from mlflow_connections_events._proxy import Arguments
from mlflow_connections_events.entities import Redact
from mlflow_connections_events.vocabulary import KINDS, RUN_KINDS, RunContext
from mlflow_connections_outbox import Event

from ._artifacts import Owner, register_owner
from ._calls import EventLog, Record, recorded_methods, recording
from ._run_cache import AnnouncedRun, RunCache

FLUSH_SECONDS = 1.0
"""The maximum time that the end of a run waits for the delivery of its events, in seconds."""

_ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})


class Recorder:
    """Records the accepted calls of one tracking store.

    Args:
        store: The store whose results are passed to the caller.
        log: Returns the log that receives the next event. If it is another one, runs are announced again.
        redact: Applied to each param, tag and URI before the event is created.
        extra: Called once when an outermost run is announced; its result is part of the run's
            context.
        enabled: Nothing is recorded while it returns false.
        kinds: The kinds that are recorded; others cost nothing.
    """

    def __init__(
        self,
        store: Any,
        log: Callable[[], EventLog],
        *,
        redact: Redact = entities.keep,
        extra: Callable[[], Mapping[str, str] | None] = lambda: None,
        enabled: Callable[[], bool] = lambda: True,
        kinds: frozenset[str] = KINDS,
    ) -> None:
        self.store = store
        self.runs = RunCache()
        self._log_in_force = log
        self._log = log()
        self.redact = redact
        self._extra = extra
        self.kinds = kinds
        self.never_raise = recording(enabled)

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Return the recording function for each recorded method of the store, by name."""
        records: dict[str, Record] = {
            "create_experiment": self._create_experiment,
            "get_experiment": lambda _, found: self._see_experiment(found),
            "get_experiment_by_name": lambda _, found: self._see_experiment(found),
            "set_experiment_tag": lambda a, _: self._tag(
                "experiment_tagged", str(a["experiment_id"]), a["tag"]
            ),
            "get_run": self._get_run,
            "create_run": self._create_run,
            "update_run_info": self._update_run,
            "delete_run": lambda a, _: self._change_stage(a["run_id"], "deleted"),
            "restore_run": lambda a, _: self._change_stage(a["run_id"], "active"),
            "log_metric": lambda a, _: self._record(a["run_id"], metrics=[a["metric"]]),
            "log_param": lambda a, _: self._record(a["run_id"], params=[a["param"]]),
            "set_tag": lambda a, _: self._record(a["run_id"], tags=[a["tag"]]),
            "log_batch": lambda a, _: self._record(
                a["run_id"], a["metrics"], a["params"], a["tags"]
            ),
            "delete_tag": lambda a, _: self.emit(a["run_id"], "tag_deleted", {"key": a["key"]}),
            "log_metric_async": lambda a, result: self._record_when_written(
                result, a["run_id"], metrics=[a["metric"]]
            ),
            "log_param_async": lambda a, result: self._record_when_written(
                result, a["run_id"], params=[a["param"]]
            ),
            "set_tag_async": lambda a, result: self._record_when_written(
                result, a["run_id"], tags=[a["tag"]]
            ),
            "log_batch_async": lambda a, result: self._record_when_written(
                result, a["run_id"], a["metrics"], a["params"], a["tags"]
            ),
            "log_inputs": self._log_inputs,
            "log_outputs": lambda a, _: self.emit(
                a["run_id"],
                "outputs_logged",
                {"models": [[m.model_id, m.step] for m in a["models"]]},
            ),
            "record_logged_model": lambda a, _: self.emit(
                a["run_id"],
                "model_recorded",
                {"mlmodel": entities.mlmodel(a["mlflow_model"], self.redact)},
            ),
            "create_logged_model": lambda _, model: self._log_model(model),
            "get_logged_model": lambda _, model: self._see_model(model),
            "finalize_logged_model": lambda _, model: self._log_model(model),
            "log_logged_model_params": lambda a, _: self._change_model(
                "model_params_logged", a, {"params": entities.pairs(a["params"], self.redact)}
            ),
            "set_logged_model_tags": lambda a, _: self._change_model(
                "model_tagged", a, {"tags": entities.pairs(a["tags"], self.redact)}
            ),
            "delete_logged_model_tag": lambda a, _: self._change_model(
                "model_tag_deleted", a, {"key": a.get("key", a.get("tag_key"))}
            ),
            "delete_logged_model": lambda a, _: self._change_model("model_deleted", a, {}),
        }
        return recorded_methods(self.store, records, self.never_raise)

    def emit(self, run_id: str, kind: str, data: Mapping[str, Any]) -> None:
        """Log one event of a run, after the announcement of the run itself."""
        if kind not in self.kinds:
            return
        self._follow()
        run = self.runs.get(run_id) or self._announce_unknown(run_id)
        if kind != "logged" or "params" in data or "extra" in run.context:
            data = {**data, "run": run.context}
        self.append(run_id, kind, data)

    def append(self, stream: str, kind: str, data: Mapping[str, Any]) -> None:
        """Log one event, unless its kind is not recorded."""
        if kind in self.kinds:
            self._follow()
            self._log.append(Event(stream, kind, time.time_ns() // 1_000_000, data))

    def _follow(self) -> None:
        log = self._log_in_force()
        if log is not self._log:
            self._log = log
            self.runs.forget_announced()

    # ----- for the recorder of traces

    def announced(self, run_id: str) -> AnnouncedRun:
        """Return a run, announcing it first if necessary."""
        self._follow()
        return self.runs.get(run_id) or self._announce_unknown(run_id)

    def experiment_name(self, experiment_id: Any) -> str | None:
        """Return the name of an experiment, or None if the store does not know it either."""
        if self.runs.experiment_name(experiment_id) is None:
            # At most once per experiment and process, and only if no earlier response named it.
            self._see_experiment(self.store.get_experiment(experiment_id))
        return self.runs.experiment_name(experiment_id)

    def own_without_run(self, artifact_uri: str, stream: str, **named: str) -> None:
        """Record the artifacts below a URI in a stream that does not belong to a run."""
        append = functools.partial(self.append, stream)
        register_owner(artifact_uri, Owner(append, self.never_raise, self.redact, named))

    # ----- experiments and runs

    def _create_experiment(self, arguments: Arguments, experiment_id: Any) -> None:
        self.runs.name_experiment(experiment_id, arguments["name"])
        location = arguments.get("artifact_location")
        self.append(
            str(experiment_id),
            "experiment_created",
            {
                "name": arguments["name"],
                "artifact_location": location and self.redact("artifact_location", location),
                "tags": entities.pairs(arguments.get("tags"), self.redact),
            },
        )

    def _see_experiment(self, experiment: Any) -> None:
        if experiment is not None:
            self.runs.name_experiment(experiment.experiment_id, experiment.name)

    def _tag(self, kind: str, stream: str, tag: Any) -> None:
        value = self.redact(str(tag.key), str(tag.value))
        self.append(stream, kind, {"key": str(tag.key), "value": value})

    def _create_run(self, _: Arguments, run: Any) -> None:
        self._own(run.info.artifact_uri, run.info.run_id)
        self._announce(run, resumed=False)

    def _get_run(self, _: Arguments, run: Any) -> None:
        self._own(run.info.artifact_uri, run.info.run_id)
        self.runs.see(run.info.run_id, run)

    def _own(self, artifact_uri: str, run_id: str, **named: str) -> None:
        emit = functools.partial(self.emit, run_id)
        register_owner(artifact_uri, Owner(emit, self.never_raise, self.redact, named))

    def _announce_unknown(self, run_id: str) -> AnnouncedRun:
        # Another process, or an earlier one, created the run: the destination may not know it.
        with self.runs.lock:
            known = self.runs.get(run_id)
            return known or self._announce(
                self.runs.seen(run_id) or self.store.get_run(run_id), resumed=True
            )

    def _announce(self, entity: Any, resumed: bool) -> AnnouncedRun:
        name = self.experiment_name(entity.info.experiment_id)
        data = entities.run(entity, name, self.redact)
        data["resumed"] = resumed
        data["server_id"] = True
        context = self._context(data["experiment_id"], name, data["start_time"], data["parent"])
        data["run"] = context
        run = AnnouncedRun(dict(data.get("params", {})), context)
        self.runs.announce(entity.info.run_id, run)
        self.append(entity.info.run_id, "run_started", cast("Mapping[str, Any]", data))
        return run

    def _context(
        self, experiment_id: str, name: str | None, started: int | None, parent_id: str | None
    ) -> RunContext:
        context: RunContext = {
            "experiment_id": experiment_id,
            "started": started or time.time_ns() // 1_000_000,
        }
        if name:
            context["experiment_name"] = name
        if parent_id:
            parent = self.announced(parent_id).context
            context["parent"] = parent_id
            context["root"] = parent.get("root", parent_id)
            if extra := parent.get("extra"):
                context["parent_extra"] = extra
            if extra := parent.get("extra") or parent.get("root_extra"):
                context["root_extra"] = extra
        elif extra := self._extra():
            context["extra"] = extra
        return context

    def _update_run(self, arguments: Arguments, info: Any) -> None:
        run_id = arguments["run_id"]
        data: dict[str, Any] = {}
        if name := arguments.get("run_name"):
            data["run_name"] = name
        has_status = arguments.get("run_status") is not None
        ended = has_status and info.status in _ENDED
        run = self.runs.get(run_id)
        if has_status:
            data |= {"status": info.status, "end_time": info.end_time}
        if ended and run is not None and run.params:
            data["params"] = dict(run.params)
        if data:
            self.emit(run_id, "run_updated", data)
        # Waiting at the end of each of a hundred nested runs would take long.
        if ended and not (run is not None and "parent" in run.context):
            self._log.flush(FLUSH_SECONDS)

    def _change_stage(self, run_id: str, stage: str) -> None:
        self.emit(run_id, "stage_changed", {"stage": stage})

    # ----- what runs log

    def _record(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        self._emit_logged(run_id, self._logged(metrics, params, tags))

    def _emit_logged(self, run_id: str, data: dict[str, Any]) -> None:
        if data:
            self.emit(run_id, "logged", data)
        if params := data.get("params"):
            run = self.runs.get(run_id)
            if run is not None:
                run.params.update(params)

    def _logged(self, metrics: Any, params: Any, tags: Any) -> dict[str, Any]:
        data: dict[str, Any] = {}
        if metrics:
            data["metrics"] = entities.metrics(metrics)
        if params:
            data["params"] = entities.pairs(params, self.redact)
        if tags:
            data["tags"] = entities.pairs(tags, self.redact)
        return data

    def _record_when_written(
        self, operations: Any, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()
    ) -> None:
        """Record an asynchronous call once MLflow has written all of it.

        The values are copied now, because MLflow extends its callers' lists.
        """
        data = self._logged(metrics, params, tags)
        futures = write_futures(operations)
        if not futures:
            self._emit_logged(run_id, data)
            return
        record = self.never_raise(lambda _, __: self._emit_logged(run_id, data))
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
            data["datasets"] = [entities.dataset(entity, self.redact) for entity in datasets]
        if models := arguments.get("models"):
            data["models"] = [m.model_id for m in models]
        if data:
            self.emit(arguments["run_id"], "inputs_logged", data)

    # ----- logged models

    def _see_model(self, model: Any) -> None:
        self.runs.see_model(model.model_id, model.source_run_id)
        if model.source_run_id:
            self._own(model.artifact_location, model.source_run_id, model=model.model_id)
        elif not self.kinds <= RUN_KINDS:
            # A product that only supports runs cannot store files without one.
            self.own_without_run(model.artifact_location, model.model_id, model=model.model_id)

    def _log_model(self, model: Any) -> None:
        self._see_model(model)
        data = cast("dict[str, Any]", entities.logged_model(model, self.redact))
        if model.source_run_id:
            self.emit(model.source_run_id, "model_logged", data)
        else:
            name = self.experiment_name(model.experiment_id)
            self.append(model.model_id, "model_logged", {**data, "experiment_name": name})

    def _change_model(self, kind: str, arguments: Arguments, data: dict[str, Any]) -> None:
        if kind not in self.kinds:
            return
        model_id = arguments["model_id"]
        if self.runs.stream_of_model(model_id) is None:
            # Another process created the model; at most one request is sent for each.
            self._see_model(self.store.get_logged_model(model_id))
        stream = self.runs.stream_of_model(model_id) or model_id
        self.append(stream, kind, {"model_id": model_id, **data})
