"""Applying the events of assessments: feedback and expectations about traces."""

from collections.abc import Callable, Mapping
from typing import Any

from mlflow_connections_events._mlflow import accepted_arguments
from mlflow_connections_outbox import Event, Rejected

from ._outcome import unless_duplicate, unless_gone
from ._target import ReplayTarget
from ._traces import TraceApplier


class AssessmentApplier:
    """Applies the events of assessments.

    Args:
        target: The server.
        traces: Finds the traces that are assessed.
    """

    def __init__(self, target: ReplayTarget, traces: TraceApplier) -> None:
        self._target = target
        self._ids = target.ids
        self._traces = traces

    def handlers(self) -> Mapping[str, Callable[[Event], None]]:
        """Return the function for each kind of event."""
        return {"assessment_logged": self._logged, "assessment_deleted": self._deleted}

    def _logged(self, event: Event) -> None:
        """Create an assessment, or update it if the destination has it."""
        data, store = event.data, self._target.tracking
        if not hasattr(store, "create_assessment"):
            raise Rejected(
                "MLflow 2 keeps no assessments in a database; deliver with MLflow 3.", [0]
            )
        trace = self._traces.id_of(event.stream)
        existing = self._find(trace, data)
        wanted = self._entity(trace, data)
        if existing is None:
            created: list[Any] = []
            unless_duplicate(lambda: created.append(store.create_assessment(wanted)))
            existing = created[0] if created else wanted
        elif not _is_same(existing, wanted):
            store.update_assessment(
                trace,
                existing.assessment_id,
                name=wanted.name,
                rationale=wanted.rationale,
                metadata=wanted.metadata,
                **{data["kind"]: getattr(wanted, data["kind"])},
            )
        self._know(data["assessment_id"], existing.assessment_id)

    def _know(self, source: str, target: str | None) -> None:
        # An MLflow server keeps the ID; others create one.
        if target and target != source and self._ids.get(source) != target:
            self._ids.put(source, target)

    def _find(self, trace: str, data: Mapping[str, Any]) -> Any:
        wanted = self._ids.get(data["assessment_id"]) or data["assessment_id"]
        found = getattr(self._target.tracking.get_trace_info(trace), "assessments", None) or ()
        for each in found:
            if each.assessment_id == wanted:
                return each
        # A server that creates the IDs itself, after a lost response.
        marks = (data["name"], data["created"], data["source"])
        for each in found:
            source = [each.source.source_type, str(each.source.source_id)]
            if (each.name, each.create_time_ms, source) == marks and data["created"]:
                return each
        return None

    def _entity(self, trace: str, data: Mapping[str, Any]) -> Any:
        from mlflow.entities import AssessmentError, AssessmentSource, Expectation, Feedback

        error = data.get("error")
        kind: Any = {"feedback": Feedback, "expectation": Expectation}[data["kind"]]
        source_type, source_id = data["source"]
        more = {
            "error": error and AssessmentError(*error),
            "rationale": data.get("rationale"),
            "overrides": self._id_of(data.get("overrides")),
        }
        entity = kind(
            name=data["name"],
            value=data["value"],
            source=AssessmentSource(source_type, source_id),
            trace_id=trace,
            metadata={k: self._ids.replaced(v) for k, v in data["metadata"].items()},
            span_id=data.get("span_id"),
            create_time_ms=data["created"],
            last_update_time_ms=data["updated"],
            **accepted_arguments(kind.__init__, more),
        )
        entity.assessment_id = self._id_of(data["assessment_id"])
        entity.rationale = data.get("rationale")
        if run := data.get("source_run"):
            entity.run_id = self._ids.get(run) or run
        return entity

    def _id_of(self, source: str | None) -> str | None:
        return source and (self._ids.get(source) or source)

    def _deleted(self, event: Event) -> None:
        """Delete an assessment."""
        trace, assessment = self._traces.id_of(event.stream), event.data["assessment_id"]
        known = self._id_of(assessment)
        unless_gone(lambda: self._target.tracking.delete_assessment(trace, known))


def _is_same(one: Any, other: Any) -> bool:
    # Servers report a missing assessment in several ways.
    names = ("name", "feedback", "expectation", "rationale", "metadata")
    return all((getattr(one, n, None) or None) == (getattr(other, n, None) or None) for n in names)
