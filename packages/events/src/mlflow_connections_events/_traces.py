"""Applying events of traces to the tracking store of an MLflow server. Each may be applied twice.

In MLflow 3 clients make the IDs of traces, so a trace keeps its ID on every server. In MLflow 2 the server
makes it, and the trace is found again by a tag.
"""

import inspect
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow_connections_outbox import Event, Rejected

from ._mlflow import accepted_arguments, artifact_repository
from ._outcome import is_gone, unless_duplicate, unless_gone
from .entities import ARTIFACT_LOCATION, TRACE_FILE, trace_id
from .ids import SOURCE_TAG, IdMap

_SOURCE_RUN = "mlflow.sourceRun"
_MAX_DELETED = 100


class TraceApplier:
    """Applies the events of traces to one server.

    Args:
        tracking: Returns the server's tracking store.
        tracking_uri: The server, for the files of traces.
        ids: The map of IDs.
        experiment: Returns the destination's ID of the experiment of an event, given the event's data.
        run: Returns the destination's ID of a run, given the source's ID and the run's context.
        is_absent: Returns, once, whether the server is known to have nothing of a trace.
        own_ids: Whether the IDs in events are the destination's own.
    """

    def __init__(
        self,
        tracking: Callable[[], Any],
        tracking_uri: str,
        ids: IdMap,
        experiment: Callable[[Mapping[str, Any]], str],
        run: Callable[[str, Mapping[str, Any]], str],
        is_absent: Callable[[str], bool],
        *,
        own_ids: bool,
    ) -> None:
        self._tracking = tracking
        self._uri = tracking_uri
        self._ids = ids
        self._experiment = experiment
        self._run = run
        self._is_absent = is_absent
        self._own_ids = own_ids

    def trace(self, source: str) -> str:
        """Return the destination's ID of a trace.

        Raises:
            Rejected: It was not announced to a server that makes IDs itself.
        """
        if known := self._ids.get(source):
            return known
        if self._own_ids or self._clients_make_ids():
            return source
        raise Rejected(f"The trace {source} was not announced to the destination.", [0])

    def log_file(self, source: str, file: Path, folder: str) -> None:
        """Upload a file of a trace; a file of spans names the destination's IDs."""
        location = self._tracking().get_trace_info(self.trace(source)).tags[ARTIFACT_LOCATION]
        repository = artifact_repository(location, self._uri)
        if file.name != TRACE_FILE or folder:
            repository.log_artifact(str(file), folder or None)
            return
        text = self._ids.replaced(file.read_text(encoding="utf-8"))
        self._write_spans(repository, text)

    def _clients_make_ids(self) -> bool:
        return "trace_info" in inspect.signature(self._tracking().start_trace).parameters

    # ----- traces

    def logged(self, event: Event) -> None:
        """Create or update a trace."""
        data = event.data
        experiment = self._experiment(data)
        if run := data["metadata"].get(_SOURCE_RUN):
            # For the map of IDs. A trace may be copied without its run.
            with suppress(Rejected):
                self._run(run, data.get("run", {}))
        metadata = {k: self._ids.replaced(v) for k, v in data["metadata"].items()}
        tags = {k: self._ids.replaced(v) for k, v in data["tags"].items()}
        if not self._own_ids:
            tags[SOURCE_TAG] = event.stream
        if self._clients_make_ids():
            self._start(event, experiment, metadata, tags)
        else:
            self._start_on_mlflow_2(event, experiment, metadata, {**tags, SOURCE_TAG: event.stream})

    def _start(
        self, event: Event, experiment: str, metadata: dict[str, str], tags: dict[str, str]
    ) -> None:
        from mlflow.entities import TraceInfo, TraceLocation, TraceState

        data, existing = event.data, self._existing(event.stream)
        if existing is not None and self._has_come(existing, event):
            for key, value in tags.items():
                if existing.tags.get(key) != value:
                    self._tracking().set_trace_tag(event.stream, key, value)
            return
        info: Any = TraceInfo(
            trace_id=event.stream,
            trace_location=TraceLocation.from_experiment_id(experiment),
            request_time=data["start_time"],
            state=TraceState(data["state"]),
            request_preview=data.get("request_preview"),
            response_preview=data.get("response_preview"),
            client_request_id=data.get("client_request_id"),
            execution_duration=data.get("duration"),
            trace_metadata=metadata,
            tags=tags,
        )
        if existing is not None:
            # MLflow 3.5 fails to start a trace again without all that the trace has by now.
            info.tags = {**existing.tags, **info.tags}
            info.trace_metadata = {**existing.trace_metadata, **info.trace_metadata}
            info.assessments = existing.assessments
        self._tracking().start_trace(info)

    def _existing(self, trace: str) -> Any:
        try:
            return self._tracking().get_trace_info(trace)
        except Exception as error:
            if not is_gone(error):
                raise
            return None

    def _has_come(self, existing: Any, event: Event) -> bool:
        """Return whether a trace was logged before, and not only its spans."""
        if existing.tags.get(SOURCE_TAG) != event.stream:
            return False
        data = event.data
        if (existing.state.value, existing.request_time) != (data["state"], data["start_time"]):
            return False
        # MLflow 3.5 rounds again when spans come again. To start the trace again would be worse: it
        # makes assessments valid that others have overridden.
        return abs(int(existing.execution_duration or 0) - int(data.get("duration") or 0)) <= 1

    def _start_on_mlflow_2(
        self, event: Event, experiment: str, metadata: dict[str, str], tags: dict[str, str]
    ) -> None:
        from mlflow.entities.trace_status import TraceStatus

        data, store = event.data, self._tracking()
        known = self._ids.get(event.stream)
        if known is None:
            found = self._find(experiment, event.stream)
            if found is None:
                found = store.start_trace(experiment, data["start_time"], metadata, tags)
            known = trace_id(found)
            self._ids.put(event.stream, known)
        if data["state"] != "IN_PROGRESS":
            end = data["start_time"] + (data.get("duration") or 0)
            store.end_trace(known, end, TraceStatus(data["state"]), metadata, tags)

    def _find(self, experiment: str, source: str) -> Any:
        for info in self._search(experiment, f"tags.`{SOURCE_TAG}` = '{source}'"):
            return info
        return None

    def _search(self, experiment: str, filter_string: str) -> Iterator[Any]:
        search, token = self._tracking().search_traces, None
        where = (
            "locations" if "locations" in inspect.signature(search).parameters else "experiment_ids"
        )
        while True:
            found, token = search(
                **{where: [experiment]}, filter_string=filter_string, page_token=token
            )
            yield from found
            if not token:
                return

    def tagged(self, event: Event) -> None:
        """Set a tag of a trace."""
        value = self._ids.replaced(event.data["value"])
        self._tracking().set_trace_tag(self.trace(event.stream), event.data["key"], value)

    def tag_deleted(self, event: Event) -> None:
        """Delete a tag of a trace."""
        trace, key = self.trace(event.stream), event.data["key"]
        unless_gone(lambda: self._tracking().delete_trace_tag(trace, key))

    def linked(self, event: Event) -> None:
        """Link a trace to a run."""
        trace, run = self._trace_and_run(event)
        unless_duplicate(lambda: self._tracking().link_traces_to_run([trace], run))

    def unlinked(self, event: Event) -> None:
        """Undo the link of a trace to a run."""
        trace, run = self._trace_and_run(event)
        unless_gone(lambda: self._tracking().unlink_traces_from_run([trace], run))

    def _trace_and_run(self, event: Event) -> tuple[str, str]:
        if not hasattr(self._tracking(), "link_traces_to_run"):
            raise Rejected("MLflow 2 cannot link traces to runs; deliver with MLflow 3.", [0])
        run = self._run(event.data["linked_run"], event.data.get("run", {}))
        return self.trace(event.stream), run

    def deleted(self, event: Event) -> None:
        """Delete a trace."""
        experiment = self._experiment(event.data)
        self._delete(experiment, [self.trace(event.stream)])

    def deleted_by_age(self, event: Event) -> None:
        """Delete the oldest traces of an experiment, of those that came from the source."""
        data = event.data
        experiment = self._experiment({**data, "experiment_id": event.stream})
        if self._own_ids:
            self._tracking().delete_traces(
                experiment, max_timestamp_millis=data["until"], max_traces=data["count"]
            )
            return
        found = self._search(experiment, f"attributes.timestamp_ms <= {data['until']}")
        copies = [info for info in found if SOURCE_TAG in info.tags]
        copies.sort(key=lambda info: int(info.timestamp_ms))
        self._delete(experiment, [trace_id(info) for info in copies[: data["count"]]])

    def _delete(self, experiment: str, traces: Sequence[str]) -> None:
        delete = self._tracking().delete_traces
        named = (
            "trace_ids" if "trace_ids" in inspect.signature(delete).parameters else "request_ids"
        )
        for start in range(0, len(traces), _MAX_DELETED):
            delete(experiment, **{named: list(traces[start : start + _MAX_DELETED])})

    # ----- spans

    def spans_logged(self, event: Event) -> None:
        """Write spans to the server's database, or else to the trace's file."""
        from mlflow.entities import Span

        store, data = self._tracking(), event.data
        experiment = self._experiment(data)
        spans = json.loads(self._ids.replaced(json.dumps(data["spans"])))
        if self._has_spans(event.stream, spans):
            return
        if hasattr(store, "log_spans"):
            try:
                store.log_spans(experiment, [Span.from_dict(span) for span in spans])
            except NotImplementedError:
                pass
            except Exception as error:
                # Said by a server whose own store has no spans.
                if "span logging is not supported" not in str(error):
                    raise
            else:
                return
        self._add_to_file(self.trace(event.stream), spans)

    def _has_spans(self, trace: str, spans: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether a trace that came before has all of some spans.

        To log them again would round the trace's duration anew.
        """
        get_trace = getattr(self._tracking(), "get_trace", None)
        if self._own_ids or get_trace is None or self._is_absent(trace):
            return False
        existing = self._existing(trace)
        if existing is None or existing.tags.get(SOURCE_TAG) != trace:
            return False
        try:
            found = get_trace(trace, allow_partial=True).data.spans
        except Exception:  # noqa: BLE001 - they are logged then, which says what is wrong
            return False
        known = {span.to_dict()["span_id"] for span in found}
        return {span["span_id"] for span in spans} <= known

    def _add_to_file(self, trace: str, spans: Iterable[Mapping[str, Any]]) -> None:
        """Add spans to the file of a trace that exists."""
        location = self._tracking().get_trace_info(trace).tags[ARTIFACT_LOCATION]
        repository = artifact_repository(location, self._uri)
        known: dict[str, Mapping[str, Any]] = {}
        if any(entry.path == TRACE_FILE for entry in repository.list_artifacts()):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(repository.download_artifacts(TRACE_FILE, folder))
                content = json.loads(file.read_text(encoding="utf-8"))
            known = {span["span_id"]: span for span in content["spans"]}
        known |= {span["span_id"]: span for span in spans}
        self._write_spans(repository, json.dumps({"spans": list(known.values())}))

    def _write_spans(self, repository: Any, text: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, TRACE_FILE)
            file.write_text(text, encoding="utf-8", newline="")
            repository.log_artifact(str(file))

    # ----- assessments

    def assessed(self, event: Event) -> None:
        """Create an assessment, or update it if the destination has it."""
        data, store = event.data, self._tracking()
        if not hasattr(store, "create_assessment"):
            raise Rejected(
                "MLflow 2 keeps no assessments in a database; deliver with MLflow 3.", [0]
            )
        trace = self.trace(event.stream)
        existing = self._find_assessment(trace, data)
        wanted = self._assessment(trace, data)
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
        # A server of MLflow's own keeps the ID; others make one.
        if target and target != source and self._ids.get(source) != target:
            self._ids.put(source, target)

    def _find_assessment(self, trace: str, data: Mapping[str, Any]) -> Any:
        wanted = self._ids.get(data["assessment_id"]) or data["assessment_id"]
        found = getattr(self._tracking().get_trace_info(trace), "assessments", None) or ()
        for each in found:
            if each.assessment_id == wanted:
                return each
        # A server that makes the IDs itself, after a lost response.
        marks = (data["name"], data["created"], data["source"])
        for each in found:
            source = [each.source.source_type, str(each.source.source_id)]
            if (each.name, each.create_time_ms, source) == marks and data["created"]:
                return each
        return None

    def _assessment(self, trace: str, data: Mapping[str, Any]) -> Any:
        from mlflow.entities import AssessmentError, AssessmentSource, Expectation, Feedback

        error = data.get("error")
        kind: Any = {"feedback": Feedback, "expectation": Expectation}[data["kind"]]
        source_type, source_id = data["source"]
        more = {
            "error": error and AssessmentError(*error),
            "rationale": data.get("rationale"),
            "overrides": self._assessment_id(data.get("overrides")),
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
        entity.assessment_id = self._assessment_id(data["assessment_id"])
        entity.rationale = data.get("rationale")
        if run := data.get("source_run"):
            entity.run_id = self._ids.get(run) or run
        return entity

    def _assessment_id(self, source: str | None) -> str | None:
        return source and (self._ids.get(source) or source)

    def assessment_deleted(self, event: Event) -> None:
        """Delete an assessment."""
        trace, assessment = self.trace(event.stream), event.data["assessment_id"]
        known = self._assessment_id(assessment)
        unless_gone(lambda: self._tracking().delete_assessment(trace, known))


def _is_same(one: Any, other: Any) -> bool:
    # A server says nothing in several ways.
    names = ("name", "feedback", "expectation", "rationale", "metadata")
    return all((getattr(one, n, None) or None) == (getattr(other, n, None) or None) for n in names)


APPLY: Mapping[str, Callable[[TraceApplier, Event], None]] = {
    "trace_logged": TraceApplier.logged,
    "spans_logged": TraceApplier.spans_logged,
    "trace_tagged": TraceApplier.tagged,
    "trace_tag_deleted": TraceApplier.tag_deleted,
    "trace_linked": TraceApplier.linked,
    "trace_unlinked": TraceApplier.unlinked,
    "trace_deleted": TraceApplier.deleted,
    "traces_deleted": TraceApplier.deleted_by_age,
    "assessment_logged": TraceApplier.assessed,
    "assessment_deleted": TraceApplier.assessment_deleted,
}
"""The function for each kind of event."""
