"""Existing entities of an MLflow server, read as the events that would have made them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from inspect import signature
from typing import Any, NamedTuple, cast

from mlflow_connections import InvalidOptionError
from mlflow_connections.secrets import mask_uri
from mlflow_connections_events import entities
from mlflow_connections_events.files import paths_below, repository_of
from mlflow_connections_events.vocabulary import MAX_FILES, RunContext
from mlflow_connections_outbox import Event

_METRICS_OF_ONE_EVENT = 1_000
_SOURCE_RUN = "mlflow.sourceRun"
_COPIED_TAGS = frozenset({"mlflow.note.content", "mlflow.experimentKind"})
_DATABRICKS_OWN = "mlflow.databricks"
_NO_SPANS = ("missing span data", "is corrupted", "not fully exported")
_PAGE = 1_000


class Item(NamedTuple):
    """Something that is copied on its own: an experiment, a run, a logged model without a run, a trace.

    Attributes:
        kind: Which of these, as a word.
        id: Its ID at the source.
        name: Its name, for people.
        read: Fetches it as events, in an order in which each can be applied.
    """

    kind: str
    id: str
    name: str
    read: Callable[[], Iterator[Event]]


class SourceReader:
    """Reads what one server holds.

    Args:
        tracking_uri: The server, which must be in force in this process.
    """

    def __init__(self, tracking_uri: str) -> None:
        from mlflow import MlflowClient

        self.client: Any = MlflowClient(tracking_uri)
        self._uri = tracking_uri
        self._experiments: dict[str, Any] = {}

    def select(self, names: Iterable[str]) -> list[Item]:
        """Return what is to be copied: experiments, runs with parents first, models, traces.

        An experiment brings all that is in it; a run brings the runs nested in it, and its traces.

        Args:
            names: Names or IDs of experiments, and IDs of runs.

        Raises:
            InvalidOptionError: Nothing has this name or ID.
        """
        whole: dict[str, Any] = {}
        runs: dict[str, Any] = {}
        for name in names:
            experiment, found = self._selected(name)
            if experiment is not None:
                whole[experiment.experiment_id] = experiment
            runs |= {run.info.run_id: run for run in found}
        ordered = sorted(runs.values(), key=lambda run: self._depth(run, runs))
        models = [model for each in whole for model in self._models_without_run(each)]
        return [
            *(
                Item("experiment", e.experiment_id, e.name, partial(self._experiment_events, e))
                for e in whole.values()
            ),
            *(
                Item(
                    "run", r.info.run_id, r.info.run_name or r.info.run_id, partial(self.events, r)
                )
                for r in ordered
            ),
            *(Item("model", m.model_id, m.name, partial(self._model_events, m)) for m in models),
            *self._trace_items(whole, ordered),
        ]

    def _selected(self, name: str) -> tuple[Any, list[Any]]:
        """Return an experiment with its runs, or None and a run with those nested in it."""
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            run = _or_none(self.client.get_run, name)
            if run is not None:
                return None, self._with_nested(run)
            experiment = _or_none(self.client.get_experiment, name)
        if experiment is None:
            raise InvalidOptionError(
                f"{name!r} is neither a run nor an experiment of {mask_uri(self._uri)}."
            )
        return experiment, list(self._search(experiment.experiment_id, ""))

    def _with_nested(self, run: Any) -> list[Any]:
        found, waiting = [], [run]
        while waiting:
            parent = waiting.pop(0)
            found.append(parent)
            children = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
            waiting += self._search(parent.info.experiment_id, children)
        return found

    def _search(self, experiment_id: str, filter_string: str) -> Iterator[Any]:
        from mlflow.entities import ViewType

        token = None
        while True:
            page = self.client.search_runs(
                [experiment_id],
                filter_string,
                ViewType.ALL,
                _PAGE,
                ["attributes.start_time"],
                token,
            )
            yield from page
            if not (token := page.token):
                return

    def _depth(self, run: Any, found: Mapping[str, Any]) -> int:
        depth, seen = 0, {run.info.run_id}
        while (parent := run.data.tags.get("mlflow.parentRunId")) in found and parent not in seen:
            seen.add(parent)
            run, depth = found[parent], depth + 1
        return depth

    def events(self, run: Any) -> Iterator[Event]:
        """Yield the events of a run, in an order in which each can be applied."""
        # A search returns no inputs, and no more than the last value of each metric.
        run = self.client.get_run(run.info.run_id)
        at, stream = run.info.start_time or 0, run.info.run_id
        context = self._context(run)
        number = 0

        def event(kind: str, data: Mapping[str, Any]) -> Event:
            nonlocal number
            number += 1
            return Event(stream, kind, at, {**data, "run": context}, f"{stream}.{number}")

        started = entities.run(run, context.get("experiment_name"), entities.keep)
        started["resumed"] = False
        started["server_id"] = True
        yield event("run_started", cast("Mapping[str, Any]", started))
        for model in self._models(run.info.experiment_id, f"source_run_id = '{stream}'"):
            yield from (event(kind, data) for kind, data in self._model_parts(model))
        for key in run.data.metrics:
            history = entities.metrics(self.client.get_metric_history(stream, key))
            for start in range(0, len(history), _METRICS_OF_ONE_EVENT):
                yield event("logged", {"metrics": history[start : start + _METRICS_OF_ONE_EVENT]})
        yield from (event(kind, data) for kind, data in _inputs_and_outputs(run))
        if run.info.lifecycle_stage == "active":
            for files in self._uploads(run.info.artifact_uri):
                yield event("artifacts_uploaded", files)
        # Again, for a run that was copied before, and now that the IDs of its models are known.
        if tags := {k: v for k, v in started["tags"].items() if not k.startswith(_DATABRICKS_OWN)}:
            yield event("logged", {"tags": tags})
        state = {"status": run.info.status, "end_time": run.info.end_time}
        yield event("run_updated", {**state, "run_name": started["run_name"] or ""})
        yield from self._versions(f"run_id = '{stream}'", at, context)
        if run.info.lifecycle_stage == "deleted":
            yield event("stage_changed", {"stage": "deleted"})

    def _experiment_events(self, experiment: Any) -> Iterator[Event]:
        at, stream = experiment.creation_time or 0, str(experiment.experiment_id)
        created = {"name": experiment.name, "artifact_location": None, "tags": {}}
        yield Event(stream, "experiment_created", at, created, f"experiment {stream}")
        for key, value in experiment.tags.items():
            # Others of MLflow's own belong to the server.
            if key in _COPIED_TAGS or not key.startswith("mlflow."):
                data = {"key": key, "value": value}
                yield Event(stream, "experiment_tagged", at, data, f"experiment {stream} {key}")

    def _model_events(self, model: Any) -> Iterator[Event]:
        stream, at = model.model_id, model.creation_timestamp or 0
        name = self._experiment(model.experiment_id).name
        for number, (kind, data) in enumerate(self._model_parts(model)):
            named = {**data, "experiment_name": name}
            yield Event(stream, kind, at, named, f"{stream}.{number}")
        for source in (f"models:/{model.model_id}", model.artifact_location):
            yield from self._versions(f"source_path = '{source}'", at, {})

    def _model_parts(self, model: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        # A search may leave tags out.
        model = self.client.get_logged_model(model.model_id)
        data = cast("dict[str, Any]", entities.logged_model(model, entities.keep))
        yield "model_logged", {**data, "status": "PENDING"}
        for files in self._uploads(model.artifact_location):
            yield "artifacts_uploaded", {**files, "model": model.model_id}
        yield "model_logged", data

    def _experiment(self, experiment_id: str) -> Any:
        if experiment_id not in self._experiments:
            self._experiments[experiment_id] = self.client.get_experiment(experiment_id)
        return self._experiments[experiment_id]

    def _context(self, run: Any) -> RunContext:
        experiment_id = run.info.experiment_id
        context: RunContext = {
            "experiment_id": experiment_id,
            "experiment_name": self._experiment(experiment_id).name,
            "started": run.info.start_time or 0,
        }
        if parent := run.data.tags.get("mlflow.parentRunId"):
            context["parent"] = parent
        return context

    def _models(self, experiment_id: str, filter_string: str | None = None) -> list[Any]:
        # MLflow 2 has none.
        if not hasattr(self.client, "search_logged_models"):
            return []
        search = self.client.search_logged_models
        return list(_paged(search, experiment_ids=[experiment_id], filter_string=filter_string))

    def _models_without_run(self, experiment_id: str) -> list[Any]:
        return [model for model in self._models(experiment_id) if not model.source_run_id]

    # ----- traces

    def _trace_items(self, whole: Iterable[str], runs: Iterable[Any]) -> list[Item]:
        found: dict[str, Any] = {}
        for experiment in whole:
            found |= self._traces(experiment)
        links: dict[str, list[Any]] = {}
        for run in runs:
            experiment = run.info.experiment_id
            if experiment in whole and not found:
                continue
            for trace_id, info in self._traces(experiment, run_id=run.info.run_id).items():
                found[trace_id] = info
                if info.request_metadata.get(_SOURCE_RUN) != run.info.run_id:
                    links.setdefault(trace_id, []).append(run)
        return [
            Item(
                "trace",
                trace_id,
                info.tags.get("mlflow.traceName") or trace_id,
                partial(self._trace_events, trace_id, info, links.get(trace_id, [])),
            )
            for trace_id, info in found.items()
        ]

    def _traces(self, experiment_id: str, **where: str) -> dict[str, Any]:
        search = self.client.search_traces
        named = "locations" if "locations" in signature(search).parameters else "experiment_ids"
        found = _paged(search, **{named: [experiment_id]}, include_spans=False, **where)
        return {entities.trace_id(trace.info): trace.info for trace in found}

    def _trace_events(self, trace_id: str, info: Any, linked: Iterable[Any]) -> Iterator[Event]:
        number = 0

        def event(kind: str, data: Mapping[str, Any]) -> Event:
            nonlocal number
            number += 1
            return Event(trace_id, kind, info.timestamp_ms, data, f"{trace_id}.{number}")

        experiment = {
            "experiment_id": str(info.experiment_id),
            "experiment_name": self._experiment(str(info.experiment_id)).name,
        }
        trace, files = self._whole_trace(trace_id, info)
        # Before the trace itself: MLflow 3.5 rounds the duration again with each span.
        if trace.data.spans and not (files and _is_mlflow_2()):
            spans = entities.spans(trace.data.spans, entities.keep)
            yield event("spans_logged", {**experiment, "spans": spans})
        logged = entities.trace(trace.info, experiment["experiment_name"], entities.keep)
        yield event("trace_logged", {**logged, "run": experiment})
        for each in files:
            yield event("artifacts_uploaded", {**each, "trace": trace_id})
        assessments = getattr(trace.info, "assessments", None) or ()
        for each in sorted(assessments, key=lambda a: a.create_time_ms or 0):
            data = entities.assessment(each, entities.keep)
            if data is not None:
                yield event("assessment_logged", cast("Mapping[str, Any]", data))
        for run in linked:
            link = {"linked_run": run.info.run_id, "run": self._context(run)}
            yield event("trace_linked", link)

    def _whole_trace(self, trace_id: str, info: Any) -> tuple[Any, list[dict[str, Any]]]:
        location = info.tags.get(entities.ARTIFACT_LOCATION)
        files = list(self._uploads(location)) if location else []
        try:
            return self.client.get_trace(trace_id), files
        except Exception as error:
            # A trace that is in progress, or whose process was killed, has no spans yet.
            if not any(words in str(error) for words in _NO_SPANS):
                raise
            from mlflow.entities import Trace, TraceData

            return Trace(info, TraceData([])), files

    def _uploads(self, uri: str) -> Iterator[dict[str, Any]]:
        paths = list(paths_below(repository_of(uri, self._uri)))
        for start in range(0, len(paths), MAX_FILES):
            part = paths[start : start + MAX_FILES]
            yield {
                "source": uri.rstrip("/"),
                "files": [[path, None] for path in part],
                "count": len(part),
                "bytes": 0,
            }

    def _versions(self, filter_string: str, at: int, context: RunContext) -> Iterator[Event]:
        versions = _paged(self.client.search_model_versions, filter_string=filter_string)
        for version in sorted(versions, key=lambda each: (each.name, int(each.version))):
            model = self.client.get_registered_model(version.name)
            parts = [*_registered_model(model), *_version(version, model, context)]
            for part, (kind, data) in enumerate(parts):
                name = f"{version.name}/{version.version}.{part}"
                yield Event(version.name, kind, at, data, name)


def _registered_model(model: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    description = model.description or None
    yield "registered_model_created", {"tags": model.tags, "description": description}
    # Again, for a model that was copied before.
    yield "registered_model_updated", {"description": description}
    for key, value in model.tags.items():
        yield "registered_model_tagged", {"key": key, "value": value}


def _version(version: Any, model: Any, context: RunContext) -> Iterator[tuple[str, dict[str, Any]]]:
    number, description = str(version.version), version.description or None
    yield (
        "version_created",
        {
            "version": number,
            "source": version.source,
            "source_run": version.run_id or None,
            "model_id": getattr(version, "model_id", None),
            "run_link": version.run_link or None,
            "tags": version.tags,
            "description": description,
            "run": context,
        },
    )
    # Again, for a version that was copied before.
    yield "version_updated", {"version": number, "description": description}
    for key, value in version.tags.items():
        yield "version_tagged", {"version": number, "key": key, "value": value}
    if version.current_stage not in {None, "", "None"}:
        stage = {"version": number, "stage": version.current_stage}
        yield "stage_transitioned", {**stage, "archive_existing": False}
    for alias, owner in model.aliases.items():
        if str(owner) == number:
            yield "alias_set", {"alias": alias, "version": number}


def _inputs_and_outputs(run: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if datasets := getattr(run.inputs, "dataset_inputs", None):
        found = [entities.dataset(each, entities.keep) for each in datasets]
        yield "inputs_logged", {"datasets": found}
    # Each alone: a model of a run that is not copied is unknown to the destination.
    for model in getattr(run.inputs, "model_inputs", None) or ():
        yield "inputs_logged", {"models": [model.model_id]}
    outputs = getattr(getattr(run, "outputs", None), "model_outputs", None)
    if outputs:
        yield "outputs_logged", {"models": [[model.model_id, model.step] for model in outputs]}


def _or_none(fetch: Any, name: str) -> Any:
    try:
        return fetch(name)
    except Exception as error:
        # A database of MLflow 3.5 takes the ID of an experiment for a number without looking.
        codes = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
        if str(getattr(error, "error_code", "")) in codes or "invalid literal for int" in str(
            error
        ):
            return None
        raise


def _paged(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(**arguments, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _is_mlflow_2() -> bool:
    import mlflow

    return mlflow.__version__.startswith("2.")
