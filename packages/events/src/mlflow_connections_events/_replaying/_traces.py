"""Applying the events of traces and their spans.

In MLflow 3 clients create the IDs of traces, so a trace keeps its ID on every server. In MLflow 2
the server creates it, and the trace is found again by a tag.
"""

import inspect
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow_connections_events._mlflow import artifact_repository
from mlflow_connections_events.entities import ARTIFACT_LOCATION, TRACE_FILE, trace_id
from mlflow_connections_events.ids import SOURCE_TAG
from mlflow_connections_outbox import Event, Rejected

from ._experiments import ExperimentApplier
from ._outcome import is_gone, unless_duplicate, unless_gone
from ._runs import RunApplier
from ._target import ReplayTarget

_SOURCE_RUN = "mlflow.sourceRun"
_MAX_DELETED = 100


class TraceApplier:
    """Applies the events of traces and their spans.

    Args:
        target: The server.
        experiments: Finds the experiments of traces.
        runs: Finds the runs that traces belong to.
    """

    def __init__(
        self, target: ReplayTarget, experiments: ExperimentApplier, runs: RunApplier
    ) -> None:
        self._target = target
        self._ids = target.ids
        self._own_ids = target.own_ids
        self._experiments = experiments
        self._runs = runs

    def handlers(self) -> Mapping[str, Callable[[Event], None]]:
        """Return the function for each kind of event."""
        return {
            "trace_logged": self._logged,
            "spans_logged": self._spans_logged,
            "trace_tagged": self._tagged,
            "trace_tag_deleted": self._tag_deleted,
            "trace_linked": self._linked,
            "trace_unlinked": self._unlinked,
            "trace_deleted": self._deleted,
            "traces_deleted": self._deleted_by_age,
        }

    def id_of(self, source: str) -> str:
        """Return the destination's ID of a trace.

        Raises:
            Rejected: It was not announced to a server that creates IDs itself.
        """
        if known := self._ids.get(source):
            return known
        if self._own_ids or self._clients_make_ids():
            return source
        raise Rejected(f"The trace {source} was not announced to the destination.", [0])

    def log_file(self, source: str, file: Path, folder: str) -> None:
        """Upload a file of a trace; a file of spans contains the destination's IDs."""
        location = self._target.tracking.get_trace_info(self.id_of(source)).tags[ARTIFACT_LOCATION]
        repository = artifact_repository(location, self._target.client.tracking_uri)
        if file.name != TRACE_FILE or folder:
            repository.log_artifact(str(file), folder or None)
            return
        text = self._ids.replaced(file.read_text(encoding="utf-8"))
        repository.upload_trace_data(text)

    # ----- traces

    def _logged(self, event: Event) -> None:
        """Create or update a trace."""
        data = event.data
        experiment = self._experiments.of(data)
        if run := data["metadata"].get(_SOURCE_RUN):
            # For the map of IDs. A trace may be copied without its run.
            with suppress(Rejected):
                self._runs.id_of(run, data.get("run", {}))
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
                    self._target.tracking.set_trace_tag(event.stream, key, value)
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
            # MLflow 3.5 fails to start a trace again without all of its current data.
            info.tags = {**existing.tags, **info.tags}
            info.trace_metadata = {**existing.trace_metadata, **info.trace_metadata}
            info.assessments = existing.assessments
        self._target.tracking.start_trace(info)

    def _existing(self, trace: str) -> Any:
        try:
            return self._target.tracking.get_trace_info(trace)
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
        # MLflow 3.5 rounds again when spans are logged again. Starting the trace again would be
        # worse: it makes assessments valid that others have overridden.
        return abs(int(existing.execution_duration or 0) - int(data.get("duration") or 0)) <= 1

    def _start_on_mlflow_2(
        self, event: Event, experiment: str, metadata: dict[str, str], tags: dict[str, str]
    ) -> None:
        from mlflow.entities.trace_status import TraceStatus

        data, store = event.data, self._target.tracking
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

    def _clients_make_ids(self) -> bool:
        return "trace_info" in inspect.signature(self._target.tracking.start_trace).parameters

    def _find(self, experiment: str, source: str) -> Any:
        for info in self._search(experiment, f"tags.`{SOURCE_TAG}` = '{source}'"):
            return info
        return None

    def _search(self, experiment: str, filter_string: str) -> Iterator[Any]:
        search, token = self._target.tracking.search_traces, None
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

    def _tagged(self, event: Event) -> None:
        """Set a tag of a trace."""
        value = self._ids.replaced(event.data["value"])
        self._target.tracking.set_trace_tag(self.id_of(event.stream), event.data["key"], value)

    def _tag_deleted(self, event: Event) -> None:
        """Delete a tag of a trace."""
        trace, key = self.id_of(event.stream), event.data["key"]
        unless_gone(lambda: self._target.tracking.delete_trace_tag(trace, key))

    def _linked(self, event: Event) -> None:
        """Link a trace to a run."""
        trace, run = self._trace_and_run(event)
        unless_duplicate(lambda: self._target.tracking.link_traces_to_run([trace], run))

    def _unlinked(self, event: Event) -> None:
        """Undo the link of a trace to a run."""
        trace, run = self._trace_and_run(event)
        unless_gone(lambda: self._target.tracking.unlink_traces_from_run([trace], run))

    def _trace_and_run(self, event: Event) -> tuple[str, str]:
        if not hasattr(self._target.tracking, "link_traces_to_run"):
            raise Rejected("MLflow 2 cannot link traces to runs; deliver with MLflow 3.", [0])
        run = self._runs.id_of(event.data["linked_run"], event.data.get("run", {}))
        return self.id_of(event.stream), run

    def _deleted(self, event: Event) -> None:
        """Delete a trace."""
        experiment = self._experiments.of(event.data)
        self._delete(experiment, [self.id_of(event.stream)])

    def _deleted_by_age(self, event: Event) -> None:
        """Delete the oldest traces of an experiment, among those copied from the source."""
        data = event.data
        experiment = self._experiments.of({**data, "experiment_id": event.stream})
        if self._own_ids:
            self._target.tracking.delete_traces(
                experiment, max_timestamp_millis=data["until"], max_traces=data["count"]
            )
            return
        found = self._search(experiment, f"attributes.timestamp_ms <= {data['until']}")
        copies = [info for info in found if SOURCE_TAG in info.tags]
        copies.sort(key=lambda info: int(info.timestamp_ms))
        self._delete(experiment, [trace_id(info) for info in copies[: data["count"]]])

    def _delete(self, experiment: str, traces: Sequence[str]) -> None:
        delete = self._target.tracking.delete_traces
        named = (
            "trace_ids" if "trace_ids" in inspect.signature(delete).parameters else "request_ids"
        )
        for start in range(0, len(traces), _MAX_DELETED):
            delete(experiment, **{named: list(traces[start : start + _MAX_DELETED])})

    # ----- spans

    def _spans_logged(self, event: Event) -> None:
        """Write spans to the server's database, or else to the trace's file."""
        from mlflow.entities import Span

        store, data = self._target.tracking, event.data
        experiment = self._experiments.of(data)
        spans = json.loads(self._ids.replaced(json.dumps(data["spans"])))
        if self._has_spans(event.stream, spans):
            return
        if hasattr(store, "log_spans"):
            try:
                store.log_spans(experiment, [Span.from_dict(span) for span in spans])
            except NotImplementedError:
                pass
            except Exception as error:
                # The error of a server whose own store has no spans.
                if "span logging is not supported" not in str(error):
                    raise
            else:
                return
        self._add_to_file(self.id_of(event.stream), spans)

    def _has_spans(self, trace: str, spans: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether an existing trace has all of some spans.

        Logging them again would round the trace's duration again.
        """
        get_trace = getattr(self._target.tracking, "get_trace", None)
        if self._own_ids or get_trace is None or self._target.is_absent(trace):
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
        location = self._target.tracking.get_trace_info(trace).tags[ARTIFACT_LOCATION]
        repository = artifact_repository(location, self._target.client.tracking_uri)
        known: dict[str, Mapping[str, Any]] = {}
        if any(entry.path == TRACE_FILE for entry in repository.list_artifacts()):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(repository.download_artifacts(TRACE_FILE, folder))
                content = json.loads(file.read_text(encoding="utf-8"))
            known = {span["span_id"]: span for span in content["spans"]}
        known |= {span["span_id"]: span for span in spans}
        repository.upload_trace_data(json.dumps({"spans": list(known.values())}))
