"""Traces of MLflow 3 and their assessments: a client's writes are kept, and delivered with its runs.

The client creates the IDs of traces, so a trace has its final ID at once. Traces are read from the
server. Databricks stores some traces in tables of Unity Catalog; these are the server's alone.
"""

import copy
import inspect
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from mlflow_connections_events import entities

from ._artifacts import DurableOwner, register_owner
from ._server import DurableServer
from ._uri import SCHEME

_SPANS_LOCATION = "mlflow.trace.spansLocation"
_IN_DATABASE = "TRACKING_STORE"
_MAX_TRACES = 10_000
_IN_TABLE = "trace:/"
"""The beginning of the ID of a trace in a table of Unity Catalog."""


class DurableTraces:
    """The methods of a tracking store that write traces.

    Args:
        server: The state of the server in this process.
        experiment_name: Returns the name of an experiment, or None if it is unknown.
    """

    def __init__(self, server: DurableServer, experiment_name: Callable[[str], str | None]) -> None:
        self._server = server
        self._experiment_name = experiment_name
        self._with_spans: OrderedDict[str, None] = OrderedDict()

    def methods(
        self, kind: type, others: Mapping[str, Callable[..., Any]]
    ) -> dict[str, Callable[..., Any]]:
        """Return the replaced methods of a class of stores, by name; none if the server creates the IDs.

        Args:
            kind: The class.
            others: The methods that call the server.
        """
        start = getattr(kind, "start_trace", None)
        if start is None or "trace_info" not in inspect.signature(start).parameters:
            return {}
        names = ["start_trace", "set_trace_tag", "delete_trace_tag"]
        names += ["link_traces_to_run", "create_assessment"]
        target = self._server.target
        if target.startswith("databricks"):
            return {
                name: _unless_in_table(getattr(self, name), others[name])
                for name in names
                if name in others
            }
        if not self._server.is_offline and not target.startswith("http"):
            return {}
        # Databricks' store writes spans to tables alone; its client uploads the others as files.
        names.append("log_spans")
        return {name: getattr(self, name) for name in names if hasattr(kind, name)}

    def start_trace(self, trace_info: Any) -> Any:
        """Log a trace, whose spans follow or were logged before."""
        server, trace_id = self._server, trace_info.trace_id
        experiment_id = str(trace_info.experiment_id)
        root = f"{SCHEME}:/{experiment_id}/traces/{trace_id}/artifacts"
        data = entities.trace(trace_info, self._experiment_name(experiment_id), entities.keep, root)
        with server.lock:
            server.emit(trace_id, "trace_logged", data)
            for each in getattr(trace_info, "assessments", None) or ():
                self._assess(each, trace_id)
        register_owner(DurableOwner(server, root, None, None, is_whole=True, trace_id=trace_id))
        logged = copy.deepcopy(trace_info)
        logged.tags[entities.ARTIFACT_LOCATION] = root
        if trace_id in self._with_spans:
            logged.tags[_SPANS_LOCATION] = _IN_DATABASE
        return logged

    def log_spans(self, location: str, spans: list[Any], tracking_uri: Any = None) -> list[Any]:  # noqa: ARG002 - MLflow's
        """Log spans, of one trace or of several."""
        server, of_traces = self._server, OrderedDict[str, list[Any]]()
        for span in spans:
            of_traces.setdefault(span.trace_id, []).append(span)
        experiment_id = str(location)
        for trace_id, each in of_traces.items():
            data = {
                "experiment_id": experiment_id,
                "experiment_name": self._experiment_name(experiment_id),
                "spans": entities.spans(each, entities.keep),
            }
            with server.lock:
                self._with_spans[trace_id] = None
                while len(self._with_spans) > _MAX_TRACES:
                    self._with_spans.popitem(last=False)
                server.emit(trace_id, "spans_logged", data)
        return spans

    def set_trace_tag(self, trace_id: str, key: str, value: str) -> None:
        """Set a tag of a trace."""
        self._server.emit(trace_id, "trace_tagged", {"key": key, "value": str(value)})

    def delete_trace_tag(self, trace_id: str, key: str) -> None:
        """Delete a tag of a trace."""
        self._server.emit(trace_id, "trace_tag_deleted", {"key": key})

    def link_traces_to_run(self, trace_ids: list[str], run_id: str) -> None:
        """Link traces to a run."""
        for trace_id in trace_ids:
            self._server.emit(trace_id, "trace_linked", {"linked_run": run_id})

    def create_assessment(self, assessment: Any) -> Any:
        """Log an assessment of a trace."""
        created = copy.deepcopy(assessment)
        created.assessment_id = created.assessment_id or f"a-{uuid.uuid4().hex}"
        now = time.time_ns() // 1_000_000
        created.create_time_ms = created.create_time_ms or now
        created.last_update_time_ms = created.last_update_time_ms or now
        self._assess(created, created.trace_id)
        return created

    def _assess(self, entity: Any, trace_id: str) -> None:
        known = entity.assessment_id or f"a-{uuid.uuid4().hex}"
        data = entities.assessment(entity, entities.keep, known)
        if data is not None:
            self._server.emit(trace_id, "assessment_logged", data)


def _unless_in_table(ours: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        first = args[0] if args else next(iter(kwargs.values()), None)
        return (theirs if _is_in_table(first) else ours)(*args, **kwargs)

    return call


def _is_in_table(value: Any) -> bool:
    """Return whether the first argument of a call concerns a trace in a table of Unity Catalog."""
    if isinstance(value, list | tuple):
        return any(map(_is_in_table, value))
    place = getattr(value, "trace_location", None)
    if place is not None and place.mlflow_experiment is None:
        return True
    return str(getattr(value, "trace_id", value)).startswith(_IN_TABLE)
