"""Compare two MLflow servers, entity by entity, in tests of packages that copy or delay MLflow's data.

For example::

    assert differences(describe(source), describe(copy)) == []

Entities are found by label and not by ID, because a copy has IDs of its own: `wine/parent` is the run of
that name in the experiment `wine`, `wine/parent#2` the second one, by start. So an entity that is there
twice is a difference. IDs, and the places of artifacts, are replaced by labels in every text and file.

Any version of MLflow is described as far as it has the entities.
"""

import hashlib
import inspect
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mlflow_connections.mlflow_state import SavedState, set_uris

from .files import paths_below, repository_of
from .ids import OWN_TAGS

__all__ = ["describe", "differences"]

_LONGEST_TEXT = 2_000
_LONG = 32
_GENERATED = re.compile(r"[a-z]+-[a-z]+-\d+")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?")
_ANY_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def describe(
    tracking_uri: str,
    *,
    experiments: Collection[str] | None = None,
    exact: bool = True,
    load: bool = False,
) -> dict[str, Any]:
    """Describe everything that a user can see on a server, as nested dictionaries of plain values.

    The tracking URI is in force during this: MLflow 2.22 uses it to resolve proxied artifacts.

    Args:
        tracking_uri: The server, or a database.
        experiments: The names of the experiments to describe; None for all, including deleted ones.
            Registered models are then limited to those with versions of these runs. A mapping
            describes each experiment under the mapped name, so that experiments with different
            names can be compared.
        exact: Whether times and generated names count, as for a copy. Without them, two executions
            of one script are equal.
        load: Whether to load each model with `mlflow.pyfunc` and describe whether that succeeds.

    Returns:
        The entities under `experiments`, `runs`, `models`, `registered` and `traces`, each by label.
    """
    with _in_force(tracking_uri):
        return _Description(tracking_uri, experiments, exact=exact, load=load).whole()


def differences(
    expected: Mapping[str, Any], actual: Mapping[str, Any], *, ignore: Iterable[str] = ()
) -> list[str]:
    """Return a line for each value that differs, is missing or is unexpected, with its path.

    Args:
        expected: A description.
        actual: Another one.
        ignore: Patterns (`fnmatch`) of paths that may differ, such as `runs/*/metrics/system/*`.
    """
    patterns = tuple(ignore)
    return [
        f"{path}: {text}"
        for path, text in _different("", expected, actual)
        if not any(fnmatchcase(path, pattern) for pattern in patterns)
    ]


def _different(path: str, expected: Any, actual: Any) -> Iterator[tuple[str, str]]:
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for key in sorted({*expected, *actual}, key=str):
            inner = f"{path}/{key}".lstrip("/")
            if key not in actual:
                yield inner, f"missing: {_short(expected[key])}"
            elif key not in expected:
                yield inner, f"unexpected: {_short(actual[key])}"
            else:
                yield from _different(inner, expected[key], actual[key])
    elif expected != actual:
        yield path, f"{_short(expected)} is {_short(actual)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:400]}…"


@contextmanager
def _in_force(tracking_uri: str) -> Iterator[None]:
    before = SavedState.take()
    set_uris(tracking_uri, tracking_uri)
    try:
        yield
    finally:
        before.restore()


class _Description:
    """Describes one server, in two passes: labels for all entities, then the entities themselves."""

    def __init__(
        self, uri: str, experiments: Collection[str] | None, *, exact: bool, load: bool
    ) -> None:
        from mlflow import MlflowClient

        self._uri = uri
        self._client: Any = MlflowClient(uri)
        self._only = experiments
        self._exact = exact
        self._load = load
        self._labels: dict[str, str] = {}
        self._used: Counter[str] = Counter()

    def whole(self) -> dict[str, Any]:
        """Return the description."""
        experiments = self._experiments()
        names = self._only if isinstance(self._only, Mapping) else {}
        ids = {str(e.experiment_id): names.get(e.name, e.name) for e in experiments}
        runs = {self._label_run(run, ids): run for run in self._runs(ids)}
        models = {self._label_model(model, ids): model for model in self._models(ids)}
        versions = self._versions(runs.values(), models.values())
        traces = {self._label_trace(trace, ids): trace for trace in self._traces(ids)}
        self._pattern = re.compile("|".join(map(re.escape, self._longest_first())) or r"(?!)")
        # A service in front of the server has names of its own for the places of files.
        known = "|".join(map(re.escape, ids)) or r"(?!)"
        self._experiment_in_place = re.compile(
            rf"\b(?:{known})(?=[./](?:\w+/)?<(?:run|model|trace) )"
        )
        self._places = [*ids] if traces else []
        return {
            "experiments": {ids[str(e.experiment_id)]: self._experiment(e) for e in experiments},
            "runs": {label: self._run(run) for label, run in runs.items()},
            "models": {label: self._model(model) for label, model in models.items()},
            "registered": {name: self._registered(name, found) for name, found in versions.items()},
            "traces": {label: self._trace(trace) for label, trace in traces.items()},
        }

    # ----- labels

    def _label(self, label: str, kind: str, *ids: str | None) -> str:
        self._used[f"{kind} {label}"] += 1
        count = self._used[f"{kind} {label}"]
        label = label if count == 1 else f"{label}#{count}"
        for each in ids:
            if each:
                self._labels[each.rstrip("/")] = f"<{kind} {label}>"
        return label

    def _label_run(self, run: Any, experiments: Mapping[str, str]) -> str:
        name = self._name(run.info.run_name)
        info = run.info
        label = self._label(f"{experiments[str(info.experiment_id)]}/{name}", "run", info.run_id)
        self._labels[info.artifact_uri.rstrip("/")] = f"<files of run {label}>"
        return label

    def _label_model(self, model: Any, experiments: Mapping[str, str]) -> str:
        experiment = experiments[str(model.experiment_id)]
        label = self._label(f"{experiment}/{self._name(model.name)}", "model", model.model_id)
        self._labels[model.artifact_location.rstrip("/")] = f"<files of model {label}>"
        return label

    def _label_trace(self, trace: Any, experiments: Mapping[str, str]) -> str:
        info = trace.info
        name = info.tags.get("mlflow.traceName") or "trace"
        label = f"{experiments[str(info.experiment_id)]}/{name}"
        label = self._label(label, "trace", _trace_id(info), _otel_id(trace))
        if place := info.tags.get("mlflow.artifactLocation"):
            self._labels[place.rstrip("/")] = f"<files of trace {label}>"
        return label

    def _name(self, name: str | None) -> str:
        text = name or ""
        return text if self._exact or not _GENERATED.fullmatch(text) else "<generated>"

    def _longest_first(self) -> list[str]:
        return sorted((each for each in self._labels if each), key=len, reverse=True)

    def _text(self, text: Any) -> str:
        """Return a text with labels in place of IDs."""
        found = self._pattern.sub(lambda match: self._labels[match[0]], str(text))
        found = self._experiment_in_place.sub("<experiment>", found)
        if self._exact:
            return found
        return _ANY_ID.sub("<id>", _TIME.sub("<time>", found))

    def _texts(self, values: Mapping[str, Any] | None) -> dict[str, str]:
        return {str(k): self._text(v) for k, v in (values or {}).items() if k not in OWN_TAGS}

    def _named(self, entity_id: str | None) -> str | None:
        return self._labels.get(entity_id, entity_id) if entity_id else None

    def _time(self, value: int | None) -> int | bool:
        """Return a time, or only whether there is one."""
        return (value or 0) if self._exact else bool(value)

    # ----- fetching

    def _experiments(self) -> list[Any]:
        from mlflow.entities import ViewType

        found = list(_paged(self._client.search_experiments, view_type=ViewType.ALL))
        return [e for e in found if self._only is None or e.name in self._only]

    def _runs(self, experiments: Mapping[str, str]) -> list[Any]:
        from mlflow.entities import ViewType

        found = [
            run
            for experiment in experiments
            for run in _paged(
                self._client.search_runs, experiment_ids=[experiment], run_view_type=ViewType.ALL
            )
        ]
        return sorted(found, key=lambda run: (run.info.start_time or 0, str(run.data.params)))

    def _models(self, experiments: Mapping[str, str]) -> list[Any]:
        if not experiments or not hasattr(self._client, "search_logged_models"):
            return []
        found = list(_paged(self._client.search_logged_models, experiment_ids=[*experiments]))
        order = {run: number for number, run in enumerate(self._labels)}
        return sorted(
            found,
            key=lambda m: (order.get(m.source_run_id or "", -1), m.creation_timestamp or 0),
        )

    def _traces(self, experiments: Mapping[str, str]) -> list[Any]:
        if not experiments:
            return []
        search = self._client.search_traces
        where = _search_place(search)
        # Sequentially: the database of MLflow 3.5 answers concurrent requests with one of their
        # traces.
        found = [t for e in experiments for t in _paged(search, **{where: [e]}, max_results=100)]
        return sorted(found, key=lambda trace: trace.info.timestamp_ms)

    def _versions(self, runs: Iterable[Any], models: Iterable[Any]) -> dict[str, list[Any]]:
        known_runs = {run.info.run_id for run in runs}
        known = known_runs | {model.model_id for model in models}
        found: dict[str, list[Any]] = {}
        for model in _paged(self._client.search_registered_models):
            versions = list(
                _paged(self._client.search_model_versions, filter_string=f"name = '{model.name}'")
            )
            if self._only is None or any(
                {v.run_id, getattr(v, "model_id", None)} & known for v in versions
            ):
                found[model.name] = versions
        return found

    # ----- entities

    def _experiment(self, experiment: Any) -> dict[str, Any]:
        return {"stage": experiment.lifecycle_stage, "tags": self._texts(experiment.tags)}

    def _run(self, run: Any) -> dict[str, Any]:
        # A search omits parts.
        run = self._client.get_run(run.info.run_id)
        info, inputs = run.info, run.inputs
        outputs = getattr(getattr(run, "outputs", None), "model_outputs", None) or ()
        return {
            "name": self._name(info.run_name),
            "status": info.status,
            "stage": info.lifecycle_stage,
            "start": self._time(info.start_time),
            "end": self._time(info.end_time),
            "user": info.user_id,
            "params": self._texts(run.data.params),
            "tags": self._run_tags(run.data.tags),
            "metrics": {key: self._history(info.run_id, key) for key in run.data.metrics},
            "latest": {key: repr(value) for key, value in run.data.metrics.items()},
            "datasets": self._datasets(getattr(inputs, "dataset_inputs", None) or ()),
            "inputs": sorted(
                str(self._named(m.model_id)) for m in getattr(inputs, "model_inputs", None) or ()
            ),
            "outputs": sorted([str(self._named(m.model_id)), m.step] for m in outputs),
            "traces": self._linked(info.run_id),
            # A deleted run's files have no owner.
            "files": {}
            if info.lifecycle_stage == "deleted"
            else self._files(info.artifact_uri, self._uri),
        }

    def _linked(self, run_id: str) -> list[str]:
        """Return the traces of a run, and those that are linked to it."""
        if not self._places:
            return []
        search = self._client.search_traces
        where = _search_place(search)
        found = search(**{where: self._places}, run_id=run_id, include_spans=False)
        return sorted(str(self._named(_trace_id(trace.info))) for trace in found)

    def _run_tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        found = self._texts(tags)
        if "mlflow.runName" in found:
            found["mlflow.runName"] = self._name(found["mlflow.runName"])
        return found

    def _history(self, run_id: str, key: str) -> list[Any]:
        def row(metric: Any) -> tuple[Any, ...]:
            model = self._named(getattr(metric, "model_id", None))
            dataset = getattr(metric, "dataset_name", None), getattr(metric, "dataset_digest", None)
            return metric.step, self._time(metric.timestamp), repr(metric.value), model, *dataset

        return sorted(map(row, self._client.get_metric_history(run_id, key)), key=repr)

    def _datasets(self, inputs: Iterable[Any]) -> dict[str, Any]:
        return {
            f"{each.dataset.name}@{each.dataset.digest}": {
                "tags": self._texts({t.key: t.value for t in each.tags}),
                **self._texts(each.dataset.to_dictionary()),
            }
            for each in inputs
        }

    def _model(self, model: Any) -> dict[str, Any]:
        # A search may omit tags.
        model = self._client.get_logged_model(model.model_id)
        return {
            "name": model.name,
            "type": model.model_type or "",
            "status": str(getattr(model.status, "value", model.status)),
            "run": self._named(model.source_run_id),
            "params": self._texts(model.params),
            "tags": self._texts(model.tags),
            "files": self._files(model.artifact_location, self._uri),
            **self._loads(f"models:/{model.model_id}", model.artifact_location),
        }

    def _registered(self, name: str, versions: Iterable[Any]) -> dict[str, Any]:
        model = self._client.get_registered_model(name)
        return {
            "description": model.description or "",
            "tags": self._texts(model.tags),
            "aliases": {alias: str(number) for alias, number in model.aliases.items()},
            "versions": {str(version.version): self._version(version) for version in versions},
        }

    def _version(self, version: Any) -> dict[str, Any]:
        return {
            "source": self._text(version.source),
            "run": self._named(version.run_id or None),
            "model": self._named(getattr(version, "model_id", None)),
            "status": version.status,
            "stage": version.current_stage,
            "run link": version.run_link or "",
            "description": version.description or "",
            "tags": self._texts(version.tags),
            **self._loads(f"models:/{version.name}/{version.version}", version.source),
        }

    def _loads(self, uri: str, place: str) -> dict[str, Any]:
        if not self._load:
            return {}
        import mlflow

        try:
            mlflow.pyfunc.load_model(uri)
        except Exception as error:  # noqa: BLE001 - models raise what they like
            return {"loads": f"no: {self._text(error).replace(place, '<place>')[:200]}"}
        return {"loads": "yes"}

    # ----- traces

    def _trace(self, trace: Any) -> dict[str, Any]:
        info = trace.info
        metadata = getattr(info, "trace_metadata", None) or info.request_metadata
        assessments = getattr(info, "assessments", None) or ()
        spans = sorted(trace.data.spans, key=lambda span: (span.start_time_ns, span.name))
        names = {span.span_id: span.name for span in spans}
        used: Counter[str] = Counter()
        described = {}
        for span in spans:
            used[span.name] += 1
            described[f"{span.name}#{used[span.name]}"] = self._span(span, names)
        return {
            # MLflow 3's clients create the ID; in MLflow 2 it is the server's own.
            **({"id": _trace_id(info)} if self._exact and hasattr(info, "trace_id") else {}),
            "state": str(getattr(info.status, "value", info.status)),
            "start": self._time(info.timestamp_ms),
            "duration": self._time(info.execution_time_ms),
            "client request": getattr(info, "client_request_id", None),
            "request": self._text(getattr(info, "request_preview", None)),
            "response": self._text(getattr(info, "response_preview", None)),
            "metadata": self._texts(metadata),
            "tags": self._texts(info.tags),
            "spans": described,
            "assessments": self._assessments(assessments, names),
        }

    def _span(self, span: Any, names: Mapping[str, str]) -> dict[str, Any]:
        events = [[e.name, self._time(e.timestamp), self._texts(e.attributes)] for e in span.events]
        return {
            **({"id": span.span_id} if self._exact else {}),
            "parent": names.get(span.parent_id, span.parent_id),
            "type": span.span_type,
            "status": [str(span.status.status_code), span.status.description or ""],
            "start": self._time(span.start_time_ns),
            "end": self._time(span.end_time_ns),
            "attributes": self._texts(span.attributes),
            "events": events,
        }

    def _assessments(self, entities: Iterable[Any], spans: Mapping[str, str]) -> dict[str, Any]:
        labels = {}
        used: Counter[str] = Counter()
        for each in sorted(entities, key=lambda e: (e.create_time_ms or 0, e.name)):
            used[each.name] += 1
            labels[each.assessment_id] = f"{each.name}#{used[each.name]}", each
        known = {assessment: label for assessment, (label, _) in labels.items()}
        return {
            label: {
                "kind": type(each).__name__,
                "value": repr(_value(each)),
                "error": repr(getattr(each, "error", None)),
                "source": [each.source.source_type, each.source.source_id],
                "run": self._named(getattr(each, "run_id", None)),
                "span": spans.get(each.span_id, each.span_id),
                "rationale": each.rationale,
                "metadata": self._texts(each.metadata),
                "created": self._time(each.create_time_ms),
                "overrides": known.get(getattr(each, "overrides", None)),
                # For feedback, a server only reports that it is valid.
                "valid": getattr(each, "valid", None) is not False,
            }
            for label, each in labels.values()
        }

    # ----- files

    def _files(self, uri: str, tracking_uri: str) -> dict[str, str]:
        repository = repository_of(uri, tracking_uri)
        found = {}
        with tempfile.TemporaryDirectory() as folder:
            for number, path in enumerate(sorted(paths_below(repository))):
                local = Path(folder, str(number))
                local.mkdir()
                content = Path(repository.download_artifacts(path, str(local))).read_bytes()
                found[path] = self._content(content)
        return found

    def _content(self, content: bytes) -> str:
        """Return short text unchanged, anything else as a checksum and a size."""
        # Byte by byte, so that IDs are found in binary files too.
        text = self._text(content.decode("latin-1"))
        if len(text) <= _LONGEST_TEXT and text.isprintable():
            return text
        digest = hashlib.sha256(text.encode("latin-1")).hexdigest()
        return f"sha256 {digest}, {len(text)} bytes"


def _value(assessment: Any) -> Any:
    for name in ("feedback", "expectation"):
        if (value := getattr(assessment, name, None)) is not None:
            return value.value
    return None


def _trace_id(info: Any) -> str:
    # MLflow 2 uses this name.
    return str(getattr(info, "trace_id", None) or info.request_id)


def _otel_id(trace: Any) -> str | None:
    """Return a trace's OpenTelemetry ID, as in its spans, or None if it has no span."""
    for span in trace.data.spans:
        found = span.to_dict().get("trace_id")
        return str(found) if found and len(found) >= _LONG // 2 else None
    return None


def _search_place(search: Callable[..., Any]) -> str:
    known = inspect.signature(search).parameters
    return "locations" if "locations" in known else "experiment_ids"


def _paged(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(**arguments, page_token=token)
        yield from page
        if not (token := page.token):
            return
