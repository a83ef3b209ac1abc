"""Existing entities of an MLflow server, read as the events that would have created them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from inspect import signature
from typing import Any, NamedTuple, cast

from mlflow_connections import InvalidOptionError
from mlflow_connections.secrets import mask_uri
from mlflow_connections_events import entities
from mlflow_connections_events.files import entries_of, repository_of
from mlflow_connections_events.ids import OWN_TAGS
from mlflow_connections_events.replay import unless_missing
from mlflow_connections_events.vocabulary import RunContext
from mlflow_connections_outbox import Event

CONNECTIONS = 4
"""The maximum number of concurrent requests for one run."""
_METRICS_OF_ONE_EVENT = 1_000
_FILES_OF_ONE_EVENT = 100
_BYTES_OF_ONE_EVENT = 256 << 20
_RUNS_OF_ONE_SEARCH = 40
_SOURCE_RUN = "mlflow.sourceRun"
_COPIED_TAGS = frozenset({"mlflow.note.content", "mlflow.experimentKind"})
_DATABRICKS_OWN = "mlflow.databricks"
_NO_SPANS = ("missing span data", "is corrupted", "not fully exported")
_PAGE = 1_000


class Item(NamedTuple):
    """A unit of copying.

    Attributes:
        kind: `experiment`, `run`, `model`, `trace` or `registered model`.
        id: Its ID at the source.
        name: Its name, for people.
        number: Its number, by which the source's process reads it.
        experiment_id: The ID of its experiment.
        experiment_name: The name of its experiment.
        announcement: The event that creates it, without its content; None if it is created as a
            whole.
        depth: The number of runs that a run is nested in.
        is_deleted: Whether the source has deleted it.
        digest: Changes with its content, if a search returns enough to tell that nothing has
            changed.
        assessments: The number of a trace's assessments.
    """

    kind: str
    id: str
    name: str
    number: int
    experiment_id: str = ""
    experiment_name: str = ""
    announcement: Event | None = None
    depth: int = 0
    is_deleted: bool = False
    digest: str = ""
    assessments: int = 0


class SourceReader:
    """Reads the entities of one server. Safe for threads.

    Args:
        tracking_uri: The server, which must be in force in this process.
    """

    def __init__(self, tracking_uri: str) -> None:
        from mlflow import MlflowClient

        self.client: Any = MlflowClient(tracking_uri)
        self._uri = tracking_uri
        self._experiments: dict[str, Any] = {}
        self._reads: list[Callable[[], Iterator[Event]]] = []
        self._runs: list[Any] = []
        self._models: list[Any] = []
        self._missing: set[str] = set()
        self._pool = ThreadPoolExecutor(CONNECTIONS)

    def select(self, names: Iterable[str]) -> list[Item]:
        """Return the items to copy: experiments, runs with parents first, models, traces.

        An experiment includes everything in it; a run includes its nested runs and its traces.

        Args:
            names: Names or IDs of experiments, and IDs of runs.

        Raises:
            InvalidOptionError: No experiment or run has this name or ID.
        """
        whole: dict[str, Any] = {}
        runs: dict[str, Any] = {}
        for name in names:
            experiment, found = self._selected(name)
            if experiment is not None:
                whole[experiment.experiment_id] = experiment
            runs |= {run.info.run_id: run for run in found}
        depths = {run_id: self._depth(run, runs) for run_id, run in runs.items()}
        self._runs = sorted(runs.values(), key=lambda run: depths[run.info.run_id])
        self._models = self._all_models(whole)
        return [
            *(self._experiment_item(each) for each in whole.values()),
            *(self._run_item(run, depths[run.info.run_id]) for run in self._runs),
            *map(self._model_item, self._models),
            *self._trace_items(whole, self._runs),
        ]

    def registered(self) -> list[Item]:
        """Return the registered models with versions of selected runs and models."""
        found: dict[str, dict[str, Any]] = {}
        for version in self._versions():
            found.setdefault(version.name, {})[str(version.version)] = version
        return [
            self._item("registered model", name, name, partial(self._registered_events, name, each))
            for name, each in sorted(found.items())
        ]

    def read(self, number: int) -> list[Event]:
        """Fetch an item as events, in an applicable order."""
        return list(self._reads[number]())

    def _item(
        self, kind: str, item_id: str, name: str, read: Callable[[], Iterator[Event]], **more: Any
    ) -> Item:
        self._reads.append(read)
        return Item(kind, item_id, name, len(self._reads) - 1, **more)

    def _selected(self, name: str) -> tuple[Any, list[Any]]:
        """Return an experiment with its runs, or None and a run with its nested runs."""
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

    # ----- experiments and runs

    def _experiment_item(self, experiment: Any) -> Item:
        at, stream = experiment.creation_time or 0, str(experiment.experiment_id)
        self._experiments[stream] = experiment
        created = {"name": experiment.name, "artifact_location": None, "tags": {}}
        read = partial(self._experiment_events, experiment)
        return self._item(
            *("experiment", stream, experiment.name, read),
            experiment_id=stream,
            experiment_name=experiment.name,
            announcement=Event(stream, "experiment_created", at, created, f"experiment {stream}"),
        )

    def _experiment_events(self, experiment: Any) -> Iterator[Event]:
        at, stream = experiment.creation_time or 0, str(experiment.experiment_id)
        for key, value in experiment.tags.items():
            # MLflow's other tags belong to the server.
            if key in _COPIED_TAGS or not key.startswith("mlflow."):
                data = {"key": key, "value": value}
                yield Event(stream, "experiment_tagged", at, data, f"experiment {stream} {key}")

    def _run_item(self, run: Any, depth: int) -> Item:
        info, context = run.info, self._context(run)
        started = self._started(run, context)
        del started["params"]
        data = {**started, "run": context}
        return self._item(
            *("run", info.run_id, info.run_name or info.run_id, partial(self._run_events, run)),
            experiment_id=str(info.experiment_id),
            experiment_name=context["experiment_name"],
            announcement=Event(
                info.run_id, "run_started", info.start_time or 0, data, f"{info.run_id}.0"
            ),
            depth=depth,
            is_deleted=info.lifecycle_stage == "deleted",
        )

    def _started(self, run: Any, context: RunContext) -> dict[str, Any]:
        started = dict(entities.run(run, context.get("experiment_name"), entities.keep))
        tags = cast("dict[str, str]", started["tags"])
        started["tags"] = {k: v for k, v in tags.items() if _is_copied(k)}
        return {"params": {}, **started, "resumed": False, "server_id": True}

    def _run_events(self, run: Any) -> Iterator[Event]:
        # A search returns no inputs, and only the last value of each metric.
        run = self.client.get_run(run.info.run_id)
        at, stream = run.info.start_time or 0, run.info.run_id
        context = self._context(run)
        number = 0

        def event(kind: str, data: Mapping[str, Any]) -> Event:
            nonlocal number
            number += 1
            return Event(stream, kind, at, {**data, "run": context}, f"{stream}.{number}")

        yield from (event(kind, data) for kind, data in _inputs_and_outputs(run))
        if run.info.lifecycle_stage == "active":
            for files in self._uploads(run.info.artifact_uri):
                yield event("artifacts_uploaded", files)
        # Concurrently, with one request each.
        for metrics in _chunks(self._histories(run), _METRICS_OF_ONE_EVENT):
            yield event("logged", {"metrics": metrics})
        started = self._started(run, context)
        if params := started["params"]:
            yield event("logged", {"params": params})
        if tags := {k: v for k, v in started["tags"].items() if not k.startswith(_DATABRICKS_OWN)}:
            yield event("logged", {"tags": tags})
        state = {"status": run.info.status, "end_time": run.info.end_time}
        yield event("run_updated", {**state, "run_name": started["run_name"] or ""})

    def _histories(self, run: Any) -> list[Any]:
        run_id = run.info.run_id
        # MLflow's endpoint for the histories of many runs omits their models and datasets.
        found = self._pool.map(
            lambda key: self.client.get_metric_history(run_id, key), run.data.metrics
        )
        return [row for history in found for row in entities.metrics(history)]

    # ----- logged models

    def _all_models(self, whole: Iterable[str]) -> list[Any]:
        """Return the logged models of experiments, and those of selected runs in others."""
        whole = set(whole)
        found = [model for each in whole for model in self._search_models(each)]
        for run in self._runs:
            if (experiment := run.info.experiment_id) not in whole:
                found += self._search_models(experiment, f"source_run_id = '{run.info.run_id}'")
        # In the order of their creation.
        return sorted(found, key=lambda model: model.creation_timestamp or 0)

    def _search_models(self, experiment_id: str, filter_string: str | None = None) -> list[Any]:
        # MLflow 2 has none.
        if not hasattr(self.client, "search_logged_models"):
            return []
        search = self.client.search_logged_models
        where = {"experiment_ids": [experiment_id], "filter_string": filter_string}
        return self._found("logged models", lambda: list(paged(search, **where)))

    def _model_item(self, model: Any) -> Item:
        experiment_id = str(model.experiment_id)
        name = self._experiment(experiment_id).name
        data = {**self._model_data(model), "status": "PENDING"}
        at = model.creation_timestamp or 0
        return self._item(
            *("model", model.model_id, model.name, partial(self._model_events, model)),
            experiment_id=experiment_id,
            experiment_name=name,
            announcement=Event(model.model_id, "model_logged", at, data, f"{model.model_id}.0"),
        )

    def _model_data(self, model: Any) -> dict[str, Any]:
        data = dict(entities.logged_model(model, entities.keep))
        tags = cast("dict[str, str]", data["tags"])
        context: RunContext = {"experiment_id": str(model.experiment_id)}
        context["experiment_name"] = self._experiment(model.experiment_id).name
        named = {"experiment_name": context["experiment_name"], "run": context}
        return {**data, **named, "tags": {k: v for k, v in tags.items() if k not in OWN_TAGS}}

    def _model_events(self, model: Any) -> Iterator[Event]:
        # A search may omit tags.
        model = self.client.get_logged_model(model.model_id)
        stream, at = model.model_id, model.creation_timestamp or 0
        number = 0
        for number, files in enumerate(self._uploads(model.artifact_location), 1):
            data = {**files, "model": stream}
            yield Event(stream, "artifacts_uploaded", at, data, f"{stream}.{number}")
        data = self._model_data(model)
        yield Event(stream, "model_logged", at, data, f"{stream}.{number + 1}")

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

    # ----- traces

    def _trace_items(self, whole: Iterable[str], runs: Iterable[Any]) -> list[Item]:
        found: dict[str, Any] = {}
        for experiment in whole:
            found |= self._traces(experiment)
        links: dict[str, list[Any]] = {}
        ours = [run for run in runs if found or run.info.experiment_id not in whole]
        fetched = self._pool.map(
            lambda run: self._traces(run.info.experiment_id, run_id=run.info.run_id), ours
        )
        for run, traces in zip(ours, fetched, strict=True):
            for trace_id, info in traces.items():
                found[trace_id] = info
                if info.request_metadata.get(_SOURCE_RUN) != run.info.run_id:
                    links.setdefault(trace_id, []).append(run)
        return [
            self._trace_item(trace_id, info, links.get(trace_id, []))
            for trace_id, info in found.items()
        ]

    def _trace_item(self, trace_id: str, info: Any, linked: list[Any]) -> Item:
        experiment_id = str(info.experiment_id)
        name = self._experiment(experiment_id).name
        logged = entities.trace(info, name, entities.keep)
        is_ended = logged["state"] != "IN_PROGRESS"
        links = sorted(run.info.run_id for run in linked)
        return self._item(
            *("trace", trace_id, info.tags.get("mlflow.traceName") or trace_id),
            partial(self._trace_events, trace_id, info, linked),
            experiment_id=experiment_id,
            experiment_name=name,
            # The spans of a trace that has ended never change.
            digest=digest([logged, _assessments(info), links]) if is_ended else "",
            assessments=len(_assessments(info)),
        )

    def _traces(self, experiment_id: str, **where: str) -> dict[str, Any]:
        search = self.client.search_traces
        named = "locations" if "locations" in signature(search).parameters else "experiment_ids"
        place = {named: [experiment_id]}
        found = self._found(
            "traces", lambda: list(paged(search, **place, include_spans=False, **where))
        )
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
        tags = {k: v for k, v in logged["tags"].items() if k not in OWN_TAGS}
        yield event("trace_logged", {**logged, "tags": tags, "run": experiment})
        for each in files:
            yield event("artifacts_uploaded", {**each, "trace": trace_id})
        for data in _assessments(trace.info):
            yield event("assessment_logged", data)
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

    def _found(self, kind: str, search: Callable[[], list[Any]]) -> list[Any]:
        """Return what a search finds, nothing if the server cannot have any: AzureML, and logged models in MLflow 2."""
        if kind in self._missing:
            return []
        found = unless_missing(search)
        if found is None:
            self._missing.add(kind)
        return found or []

    # ----- files

    def _uploads(self, uri: str) -> Iterator[dict[str, Any]]:
        part: list[list[Any]] = []
        for path, size in self._files_below(repository_of(uri, self._uri)):
            part.append([path, size])
            taken = sum(each[1] or 0 for each in part)
            if len(part) == _FILES_OF_ONE_EVENT or taken >= _BYTES_OF_ONE_EVENT:
                yield _uploaded(uri, part)
                part = []
        if part:
            yield _uploaded(uri, part)

    def _files_below(
        self, repository: Any, folder: str | None = None
    ) -> Iterator[tuple[str, int | None]]:
        for entry in entries_of(repository, folder):
            if entry.is_dir:
                yield from self._files_below(repository, entry.path)
            else:
                yield entry.path, entry.file_size

    # ----- the model registry

    def _versions(self) -> Iterator[Any]:
        runs = [run.info.run_id for run in self._runs]
        for some in _chunks(runs, _RUNS_OF_ONE_SEARCH):
            named = ",".join(f"'{run_id}'" for run_id in some)
            try:
                yield from list(self._search_versions(f"run_id IN ({named})"))
            except Exception as error:
                # Not every registry supports such a search.
                if str(getattr(error, "error_code", "")) != "INVALID_PARAMETER_VALUE":
                    raise
                for run_id in some:
                    yield from self._search_versions(f"run_id = '{run_id}'")
        for model in self._models:
            if not model.source_run_id:
                for source in (f"models:/{model.model_id}", model.artifact_location):
                    yield from self._search_versions(f"source_path = '{source}'")

    def _search_versions(self, filter_string: str) -> Iterator[Any]:
        return paged(self.client.search_model_versions, filter_string=filter_string)

    def _registered_events(self, name: str, versions: Mapping[str, Any]) -> Iterator[Event]:
        model = self.client.get_registered_model(name)
        contexts = {run.info.run_id: self._context(run) for run in self._runs}
        for part, (kind, data) in enumerate(_registered_model(model)):
            yield Event(name, kind, 0, data, f"{name}.{part}")
        for number, version in sorted(versions.items(), key=lambda each: int(each[0])):
            parts = _version(version, model, contexts.get(version.run_id) or {})
            for part, (kind, data) in enumerate(parts):
                yield Event(name, kind, 0, data, f"{name}/{number}.{part}")


def digest(data: Any) -> str:
    """Return a short digest of JSON data."""
    text = json.dumps(data, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_copied(tag: str) -> bool:
    """Return whether a tag is the source's own, and not an earlier copy's."""
    return tag not in OWN_TAGS


def _uploaded(uri: str, files: list[list[Any]]) -> dict[str, Any]:
    size = sum(size or 0 for _, size in files)
    return {"source": uri.rstrip("/"), "files": files, "count": len(files), "bytes": size}


def _assessments(info: Any) -> list[Mapping[str, Any]]:
    found = getattr(info, "assessments", None) or ()
    ordered = sorted(found, key=lambda each: each.create_time_ms or 0)
    data = [entities.assessment(each, entities.keep) for each in ordered]
    return [cast("Mapping[str, Any]", each) for each in data if each is not None]


def _chunks(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _registered_model(model: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    description = model.description or None
    yield "registered_model_created", {"tags": model.tags, "description": description}
    # Sent again, for a model that was copied before.
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
            "tags": {k: v for k, v in version.tags.items() if k not in OWN_TAGS},
            "description": description,
            "run": context,
        },
    )
    # Sent again, for a version that was copied before.
    yield "version_updated", {"version": number, "description": description}
    for key, value in version.tags.items():
        if key in OWN_TAGS:
            continue
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
    # Each in its own request: the destination does not know models of runs that are not copied.
    for model in getattr(run.inputs, "model_inputs", None) or ():
        yield "inputs_logged", {"models": [model.model_id]}
    outputs = getattr(getattr(run, "outputs", None), "model_outputs", None)
    if outputs:
        yield "outputs_logged", {"models": [[model.model_id, model.step] for model in outputs]}


def _or_none(fetch: Any, name: str) -> Any:
    try:
        return fetch(name)
    except Exception as error:
        # A database of MLflow 3.5 treats the ID of an experiment as a number without a check.
        codes = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
        if str(getattr(error, "error_code", "")) in codes or "invalid literal for int" in str(
            error
        ):
            return None
        raise


def paged(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(**arguments, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _is_mlflow_2() -> bool:
    import mlflow

    return mlflow.__version__.startswith("2.")
