"""The recorder: each call that a store has accepted becomes events, and its caller never notices."""

import functools
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, cast

from mlflow_connections.secrets import get_logger
from mlflow_connections_outbox import Event

from . import entities
from ._artifacts import Owner, register_owner
from ._mlflow import write_futures
from ._proxy import Arguments, OnSuccess, call_then
from .entities import Redact
from .vocabulary import KINDS, RUN_KINDS, RunContext

logger = get_logger(__name__)

FLUSH_SECONDS = 1.0
"""How long the end of a run waits, at most, for its events to be delivered."""

_ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})
_MAX_RUNS = 10_000
"""So many runs are remembered. A forgotten one is only announced again."""
_MAX_UNANNOUNCED = 100
_SOURCE_RUN = "mlflow.sourceRun"


class EventLog(Protocol):
    """The part of an outbox that a recorder uses."""

    def append(self, event: Event, /) -> object:
        """Keep an event. Never raises."""

    def flush(self, timeout: float, /) -> int:
        """Wait, at most so many seconds, until all events are delivered."""


class AnnouncedRun(NamedTuple):
    """A run whose announcement is in the event log.

    Attributes:
        params: All that this process logged, redacted, to be repeated at the run's end.
        context: What later events of the run repeat.
    """

    params: dict[str, str]
    context: RunContext


class RunCache:
    """The runs and experiments that a store has been seen to use. Bounded, safe for threads and fork."""

    def __init__(self) -> None:
        self._announced: OrderedDict[str, AnnouncedRun] = OrderedDict()
        self._seen: OrderedDict[str, Any] = OrderedDict()
        self._experiments: dict[str, str] = {}
        self._models: OrderedDict[str, str] = OrderedDict()
        self.lock = threading.RLock()
        _living.add(self)

    def announce(self, run_id: str, run: AnnouncedRun) -> None:
        """Remember a run that was announced."""
        with self.lock:
            self._announced[run_id] = run
            self._seen.pop(run_id, None)
            _shorten(self._announced, _MAX_RUNS)

    def get(self, run_id: str) -> AnnouncedRun | None:
        """Return an announced run, or None."""
        return self._announced.get(run_id)

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


def recording(
    enabled: Callable[[], bool],
) -> Callable[[Callable[[Arguments, Any], None]], OnSuccess]:
    """Return a function that makes recording functions safe for the calls that they record.

    They do nothing while `enabled` returns false, and never raise: recording must not fail the call that
    it records. One warning is enough for all of them, or a defect would fill the log of a training.
    """
    has_failed = False

    def never_raise(record: Callable[[Arguments, Any], None]) -> OnSuccess:
        def on_success(arguments: Callable[[], Arguments], result: Any) -> None:
            nonlocal has_failed
            try:
                if enabled():
                    record(arguments(), result)
            except Exception:
                if not has_failed:
                    has_failed = True
                    logger.warning(
                        "A call that MLflow accepted could not be copied; MLflow has it. This is a "
                        "defect of mlflow-connections-events, please report it.",
                        exc_info=True,
                    )

        return on_success

    return never_raise


class Recorder:
    """Records the accepted calls of one tracking store.

    Args:
        store: The store whose results are the caller's.
        log: Receives the events.
        redact: Applied to each param, tag and URI before the event is made.
        extra: Called once when an outermost run is announced; its result is part of the run's context.
        enabled: Nothing is recorded while it returns false.
        kinds: The kinds that are recorded; others cost nothing.
    """

    def __init__(
        self,
        store: Any,
        log: EventLog,
        *,
        redact: Redact = entities.keep,
        extra: Callable[[], Mapping[str, str] | None] = lambda: None,
        enabled: Callable[[], bool] = lambda: True,
        kinds: frozenset[str] = KINDS,
    ) -> None:
        self.store = store
        self.runs = RunCache()
        self._log = log
        self._redact = redact
        self._extra = extra
        self._kinds = kinds
        self.never_raise = recording(enabled)

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Return the recording function for each recorded method that the store has, by name."""
        records: dict[str, Callable[[Arguments, Any], None]] = {
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
                {"mlmodel": entities.mlmodel(a["mlflow_model"], self._redact)},
            ),
            "create_logged_model": lambda _, model: self._log_model(model),
            "get_logged_model": lambda _, model: self._see_model(model),
            "finalize_logged_model": lambda _, model: self._log_model(model),
            "log_logged_model_params": lambda a, _: self._change_model(
                "model_params_logged", a, {"params": entities.pairs(a["params"], self._redact)}
            ),
            "set_logged_model_tags": lambda a, _: self._change_model(
                "model_tagged", a, {"tags": entities.pairs(a["tags"], self._redact)}
            ),
            "delete_logged_model_tag": lambda a, _: self._change_model(
                "model_tag_deleted", a, {"key": a.get("key", a.get("tag_key"))}
            ),
            "delete_logged_model": lambda a, _: self._change_model("model_deleted", a, {}),
        }
        return {
            name: call_then(method, self.never_raise(record))
            for name, record in (records | self._trace_records()).items()
            if (method := getattr(self.store, name, None)) is not None
        }

    def _trace_records(self) -> dict[str, Callable[[Arguments, Any], None]]:
        return {
            "start_trace": self._start_trace,
            "end_trace": lambda _, info: self._log_trace(info, info),
            "log_spans": self._log_spans,
            "set_trace_tag": lambda a, _: self.append(
                _trace(a),
                "trace_tagged",
                {"key": a["key"], "value": self._redact(a["key"], str(a["value"]))},
            ),
            "delete_trace_tag": lambda a, _: self.append(
                _trace(a), "trace_tag_deleted", {"key": a["key"]}
            ),
            "link_traces_to_run": lambda a, _: self._link("trace_linked", a),
            "unlink_traces_from_run": lambda a, _: self._link("trace_unlinked", a),
            "delete_traces": self._delete_traces,
            "create_assessment": lambda a, created: self._assess(
                a["assessment"], created.trace_id or a["assessment"].trace_id, created.assessment_id
            ),
            "update_assessment": lambda a, updated: self._assess(updated, _trace(a)),
            "delete_assessment": lambda a, _: self.append(
                _trace(a), "assessment_deleted", {"assessment_id": a["assessment_id"]}
            ),
        }

    def emit(self, run_id: str, kind: str, data: Mapping[str, Any]) -> None:
        """Log one event of a run, after the announcement of the run itself."""
        if kind not in self._kinds:
            return
        run = self.runs.get(run_id) or self._announce_unknown(run_id)
        if kind != "logged" or "params" in data or "extra" in run.context:
            data = {**data, "run": run.context}
        self.append(run_id, kind, data)

    def append(self, stream: str, kind: str, data: Mapping[str, Any]) -> None:
        """Log one event, unless its kind is not recorded."""
        if kind in self._kinds:
            self._log.append(Event(stream, kind, time.time_ns() // 1_000_000, data))

    # ----- experiments and runs

    def _create_experiment(self, arguments: Arguments, experiment_id: Any) -> None:
        self.runs.name_experiment(experiment_id, arguments["name"])
        location = arguments.get("artifact_location")
        self.append(
            str(experiment_id),
            "experiment_created",
            {
                "name": arguments["name"],
                "artifact_location": location and self._redact("artifact_location", location),
                "tags": entities.pairs(arguments.get("tags"), self._redact),
            },
        )

    def _see_experiment(self, experiment: Any) -> None:
        if experiment is not None:
            self.runs.name_experiment(experiment.experiment_id, experiment.name)

    def _tag(self, kind: str, stream: str, tag: Any) -> None:
        value = self._redact(str(tag.key), str(tag.value))
        self.append(stream, kind, {"key": str(tag.key), "value": value})

    def _create_run(self, _: Arguments, run: Any) -> None:
        self._own(run.info.artifact_uri, run.info.run_id)
        self._announce(run, resumed=False)

    def _get_run(self, _: Arguments, run: Any) -> None:
        self._own(run.info.artifact_uri, run.info.run_id)
        self.runs.see(run.info.run_id, run)

    def _own(self, artifact_uri: str, run_id: str, **named: str) -> None:
        emit = functools.partial(self.emit, run_id)
        register_owner(artifact_uri, Owner(emit, self.never_raise, self._redact, named))

    def _own_without_run(self, artifact_uri: str, stream: str, **named: str) -> None:
        append = functools.partial(self.append, stream)
        register_owner(artifact_uri, Owner(append, self.never_raise, self._redact, named))

    def _announce_unknown(self, run_id: str) -> AnnouncedRun:
        # Another process, or an earlier one, created the run: the destination may not know it.
        with self.runs.lock:
            known = self.runs.get(run_id)
            return known or self._announce(
                self.runs.seen(run_id) or self.store.get_run(run_id), resumed=True
            )

    def _announce(self, entity: Any, resumed: bool) -> AnnouncedRun:
        name = self._experiment_name(entity.info.experiment_id)
        data = entities.run(entity, name, self._redact)
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
            parent = (self.runs.get(parent_id) or self._announce_unknown(parent_id)).context
            context["parent"] = parent_id
            context["root"] = parent.get("root", parent_id)
            if extra := parent.get("extra"):
                context["parent_extra"] = extra
            if extra := parent.get("extra") or parent.get("root_extra"):
                context["root_extra"] = extra
        elif extra := self._extra():
            context["extra"] = extra
        return context

    def _experiment_name(self, experiment_id: Any) -> str | None:
        if self.runs.experiment_name(experiment_id) is None:
            # At most once per experiment and process, and only if no earlier response named it.
            self._see_experiment(self.store.get_experiment(experiment_id))
        return self.runs.experiment_name(experiment_id)

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
        # Waiting at the end of each of a hundred nested runs would add up.
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
            data["params"] = entities.pairs(params, self._redact)
        if tags:
            data["tags"] = entities.pairs(tags, self._redact)
        return data

    def _record_when_written(
        self, operations: Any, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()
    ) -> None:
        """Record an asynchronous call once MLflow has written all of it.

        The values are copied now, because MLflow extends the lists of its callers.
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
            data["datasets"] = [entities.dataset(entity, self._redact) for entity in datasets]
        if models := arguments.get("models"):
            data["models"] = [m.model_id for m in models]
        if data:
            self.emit(arguments["run_id"], "inputs_logged", data)

    # ----- logged models

    def _see_model(self, model: Any) -> None:
        self.runs.see_model(model.model_id, model.source_run_id)
        if model.source_run_id:
            self._own(model.artifact_location, model.source_run_id, model=model.model_id)
        elif not self._kinds <= RUN_KINDS:
            # A product of runs alone has no place for files without one.
            self._own_without_run(model.artifact_location, model.model_id, model=model.model_id)

    def _log_model(self, model: Any) -> None:
        self._see_model(model)
        data = cast("dict[str, Any]", entities.logged_model(model, self._redact))
        if model.source_run_id:
            self.emit(model.source_run_id, "model_logged", data)
        else:
            name = self._experiment_name(model.experiment_id)
            self.append(model.model_id, "model_logged", {**data, "experiment_name": name})

    def _change_model(self, kind: str, arguments: Arguments, data: dict[str, Any]) -> None:
        if kind not in self._kinds:
            return
        model_id = arguments["model_id"]
        if self.runs.stream_of_model(model_id) is None:
            # Another process created the model; at most one request for each.
            self._see_model(self.store.get_logged_model(model_id))
        stream = self.runs.stream_of_model(model_id) or model_id
        self.append(stream, kind, {"model_id": model_id, **data})

    # ----- traces

    def _start_trace(self, arguments: Arguments, started: Any) -> None:
        # MLflow 3 passes the whole trace; MLflow 2 passes parts of one that its server completes.
        info = arguments.get("trace_info", started)
        self._log_trace(info, started)
        ids = {
            (each.name, each.create_time_ms): each.assessment_id
            for each in getattr(started, "assessments", None) or ()
        }
        for each in getattr(info, "assessments", None) or ():
            known = each.assessment_id or ids.get((each.name, each.create_time_ms))
            self._assess(each, entities.trace_id(info), known)

    def _log_trace(self, info: Any, known: Any) -> None:
        if "trace_logged" not in self._kinds:
            return
        trace_id = entities.trace_id(info)
        location = known.tags.get(entities.ARTIFACT_LOCATION)
        self._own_without_run(location, trace_id, trace=trace_id)
        name = self._experiment_name(info.experiment_id)
        data = cast("dict[str, Any]", entities.trace(info, name, self._redact, location))
        if run_id := info.request_metadata.get(_SOURCE_RUN):
            # The destination needs the run before a trace that names it.
            with suppress(Exception):
                run = self.runs.get(run_id) or self._announce_unknown(run_id)
                data["run"] = run.context
        self.append(trace_id, "trace_logged", data)

    def _log_spans(self, arguments: Arguments, _: Any) -> None:
        if "spans_logged" not in self._kinds:
            return
        of_traces: dict[str, list[Any]] = {}
        for span in arguments["spans"]:
            of_traces.setdefault(span.trace_id, []).append(span)
        experiment = str(arguments["location"])
        name = self._experiment_name(experiment)
        for trace_id, spans in of_traces.items():
            data = {"experiment_id": experiment, "experiment_name": name}
            self.append(
                trace_id, "spans_logged", {**data, "spans": entities.spans(spans, self._redact)}
            )

    def _link(self, kind: str, arguments: Arguments) -> None:
        if kind not in self._kinds:
            return
        run_id = arguments["run_id"]
        run = self.runs.get(run_id) or self._announce_unknown(run_id)
        for trace_id in arguments["trace_ids"]:
            self.append(trace_id, kind, {"linked_run": run_id, "run": run.context})

    def _delete_traces(self, arguments: Arguments, count: Any) -> None:
        if "trace_deleted" not in self._kinds:
            return
        experiment = str(arguments["experiment_id"])
        name = self._experiment_name(experiment)
        named = arguments.get("trace_ids") or arguments.get("request_ids") or ()
        for trace_id in named:
            data = {"experiment_id": experiment, "experiment_name": name}
            self.append(trace_id, "trace_deleted", data)
        if count and not named:
            until = arguments["max_timestamp_millis"]
            self.append(
                experiment,
                "traces_deleted",
                {"experiment_name": name, "until": until, "count": count},
            )

    def _assess(self, entity: Any, trace_id: str, assessment_id: str | None = None) -> None:
        if "assessment_logged" not in self._kinds:
            return
        data = entities.assessment(entity, self._redact, assessment_id)
        if data is not None:
            self.append(trace_id, "assessment_logged", cast("Mapping[str, Any]", data))


def _trace(arguments: Arguments) -> str:
    """Return the ID of the trace that a call names; MLflow 2 calls it a request ID."""
    return str(arguments.get("trace_id") or arguments["request_id"])
