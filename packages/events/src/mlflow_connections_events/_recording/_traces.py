"""The recorder of traces, their spans and assessments."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, cast

from mlflow_connections_events import entities
from mlflow_connections_events._proxy import Arguments

from ._calls import Record, recorded_methods
from ._recorder import Recorder

_SOURCE_RUN = "mlflow.sourceRun"


class TraceRecorder:
    """Records the accepted calls of a tracking store that concern traces.

    Args:
        recorder: The recorder of the same store, which knows its runs and experiments.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._kinds = recorder.kinds
        self._redact = recorder.redact
        self._append = recorder.append

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Return the recording function for each recorded method of the store, by name."""
        records: dict[str, Record] = {
            "start_trace": self._start_trace,
            "end_trace": lambda _, info: self._log_trace(info, info),
            "log_spans": self._log_spans,
            "set_trace_tag": lambda a, _: self._append(
                _trace(a),
                "trace_tagged",
                {"key": a["key"], "value": self._redact(a["key"], str(a["value"]))},
            ),
            "delete_trace_tag": lambda a, _: self._append(
                _trace(a), "trace_tag_deleted", {"key": a["key"]}
            ),
            "link_traces_to_run": lambda a, _: self._link("trace_linked", a),
            "unlink_traces_from_run": lambda a, _: self._link("trace_unlinked", a),
            "delete_traces": self._delete_traces,
            "create_assessment": lambda a, created: self._assess(
                a["assessment"], created.trace_id or a["assessment"].trace_id, created.assessment_id
            ),
            "update_assessment": lambda a, updated: self._assess(updated, _trace(a)),
            "delete_assessment": lambda a, _: self._append(
                _trace(a), "assessment_deleted", {"assessment_id": a["assessment_id"]}
            ),
        }
        return recorded_methods(self._recorder.store, records, self._recorder.never_raise)

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
        self._recorder.own_without_run(location, trace_id, trace=trace_id)
        name = self._recorder.experiment_name(info.experiment_id)
        data = cast("dict[str, Any]", entities.trace(info, name, self._redact, location))
        if run_id := info.request_metadata.get(_SOURCE_RUN):
            # The destination needs the run before a trace that names it.
            with suppress(Exception):
                data["run"] = self._recorder.announced(run_id).context
        self._append(trace_id, "trace_logged", data)

    def _log_spans(self, arguments: Arguments, _: Any) -> None:
        if "spans_logged" not in self._kinds:
            return
        of_traces: dict[str, list[Any]] = {}
        for span in arguments["spans"]:
            of_traces.setdefault(span.trace_id, []).append(span)
        experiment = str(arguments["location"])
        name = self._recorder.experiment_name(experiment)
        for trace_id, spans in of_traces.items():
            data = {"experiment_id": experiment, "experiment_name": name}
            self._append(
                trace_id, "spans_logged", {**data, "spans": entities.spans(spans, self._redact)}
            )

    def _link(self, kind: str, arguments: Arguments) -> None:
        if kind not in self._kinds:
            return
        run_id = arguments["run_id"]
        context = self._recorder.announced(run_id).context
        for trace_id in arguments["trace_ids"]:
            self._append(trace_id, kind, {"linked_run": run_id, "run": context})

    def _delete_traces(self, arguments: Arguments, count: Any) -> None:
        if "trace_deleted" not in self._kinds:
            return
        experiment = str(arguments["experiment_id"])
        name = self._recorder.experiment_name(experiment)
        named = arguments.get("trace_ids") or arguments.get("request_ids") or ()
        for trace_id in named:
            data = {"experiment_id": experiment, "experiment_name": name}
            self._append(trace_id, "trace_deleted", data)
        if count and not named:
            until = arguments["max_timestamp_millis"]
            self._append(
                experiment,
                "traces_deleted",
                {"experiment_name": name, "until": until, "count": count},
            )

    def _assess(self, entity: Any, trace_id: str, assessment_id: str | None = None) -> None:
        if "assessment_logged" not in self._kinds:
            return
        data = entities.assessment(entity, self._redact, assessment_id)
        if data is not None:
            self._append(trace_id, "assessment_logged", cast("Mapping[str, Any]", data))


def _trace(arguments: Arguments) -> str:
    """Return the ID of the trace that a call names; MLflow 2 calls it a request ID."""
    return str(arguments.get("trace_id") or arguments["request_id"])
