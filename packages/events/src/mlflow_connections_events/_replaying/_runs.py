"""Applying the events of runs: their states, their data, their inputs and their outputs."""

import json
import math
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mlflow_connections_events._mlflow import accepted_arguments
from mlflow_connections_events.ids import SERVER_TAG, SOURCE_TAG, may_be_from
from mlflow_connections_outbox import Event, Rejected

from ._experiments import ExperimentApplier
from ._outcome import is_duplicate, is_gone, unless_duplicate, unless_gone
from ._target import ReplayTarget

_MAX_METRICS = 1_000
_MAX_PARAMS = 100
_MAX_TAGS = 100
_PARENT = "mlflow.parentRunId"
_ORPHAN = "child of no run yet: "
"""The prefix of the keys in the map of IDs for runs whose parent the server lacks."""


class RunApplier:
    """Applies the events of runs.

    Args:
        target: The server.
        experiments: Finds the experiments of runs.
    """

    def __init__(self, target: ReplayTarget, experiments: ExperimentApplier) -> None:
        self._target = target
        self._ids = target.ids
        self._own_ids = target.own_ids
        self._experiments = experiments

    def handlers(self) -> Mapping[str, Callable[[Event], None]]:
        """Return the function for each kind of event."""
        return {
            "run_started": self._started,
            "run_updated": self._updated,
            "stage_changed": self._stage_changed,
            "logged": lambda event: self.log([event]),
            "tag_deleted": self._tag_deleted,
            "inputs_logged": self._inputs_logged,
            "outputs_logged": self._outputs_logged,
            "model_recorded": self._model_recorded,
        }

    def of(self, event: Event) -> str:
        """Return the destination's ID of an event's run."""
        return self.id_of(event.stream, event.data.get("run", {}))

    def id_of(self, source: str, context: Mapping[str, Any]) -> str:
        """Return the destination's ID of a run.

        Args:
            source: The source's ID.
            context: The run context of the event that names it.

        Raises:
            Rejected: It was not announced to the destination.
        """
        if known := self._target.known(source):
            return known
        # The announcement was delivered by a process with another state folder.
        if experiment_id := context.get("experiment_id"):
            experiment = self._experiments.id_of(experiment_id, context.get("experiment_name"))
            started = context.get("started")
            if (run := self._find(source, started, experiment)) is not None:
                self._target.know(source, run.info.run_id, None, None)
                return str(run.info.run_id)
        raise Rejected(f"The run {source} was not announced to the destination.", [0])

    def is_found_anew(self, event: Event) -> bool:
        """Return whether a run that the server lacks under its known ID exists under another one.

        The server may have been restored from a backup, or another process created the run and
        keeps the map of IDs elsewhere. A run whose announcement is known is created again.

        Raises:
            Rejected: The server has lost the run, and it cannot be created again.
        """
        mapped = self._ids.get(event.stream)
        known = self._target.known(event.stream)
        if known is None or self._exists(known):
            return False
        data = self._target.announced(event.stream)
        started = None if data is None else data["start_time"]
        run = self._find(event.stream, started, *self._experiments.all_ids())
        if run is None and data is not None:
            began = Event(event.stream, "run_started", event.at, data)
            run = self._create(began, self._experiments.of(data))
        if run is None and mapped is None:
            return False
        if run is None:
            raise Rejected(
                f"The run {event.stream} no longer exists at the destination, which may have been restored "
                "from an older backup: copy the run again, then retry.",
                [0],
            )
        for source, target in self._ids.pairs().items():
            if known in target:
                self._ids.put(source, target.replace(known, run.info.run_id))
        source_uri = None if data is None else data.get("artifact_uri")
        self._target.know(event.stream, run.info.run_id, source_uri, run.info.artifact_uri)
        self._adopt_children(event.stream, run.info.run_id)
        return True

    def log(self, events: Sequence[Event]) -> None:
        """Apply `logged` events of one run, in as few requests as MLflow allows."""
        run_id = self.of(events[0])
        metrics = [row for event in events for row in event.data.get("metrics", ())]
        # As pairs: a param with two values must reach the server, which refuses the second.
        params = {pair: None for e in events for pair in e.data.get("params", {}).items()}
        tags = {k: v for e in events for k, v in e.data.get("tags", {}).items()}
        self._log(run_id, metrics, list(params), tags)

    # ----- runs themselves

    def _started(self, event: Event) -> None:
        data = event.data
        if self._ids.get(event.stream) or (self._own_ids and data.get("server_id")):
            return
        experiment = self._experiments.of(data)
        run = self._target.found(
            event,
            event.stream,
            lambda: self._find(event.stream, data["start_time"], experiment),
        )
        if run is None:
            run = self._create(event, experiment)
        self._target.know(
            event.stream, run.info.run_id, data.get("artifact_uri"), run.info.artifact_uri
        )
        self._adopt_children(event.stream, run.info.run_id)
        if run.info.lifecycle_stage == "deleted":
            # It was copied completely before; a deleted run accepts no values.
            self._target.tracking.restore_run(run.info.run_id)
        # Its own ID was not known at its creation.
        tags = {k: v for k, v in data["tags"].items() if event.stream in v}
        self._log(run.info.run_id, [], list(data.get("params", {}).items()), tags)

    def _create(self, event: Event, experiment: str) -> Any:
        data = event.data
        tags = {**data["tags"], SOURCE_TAG: event.stream}
        if self._target.source:
            tags[SERVER_TAG] = self._target.source
        user, start = data["user"] or "", data["start_time"] or event.at
        created = self._target.tracking.create_run(
            experiment, user, start, self._tags(tags), data["run_name"] or ""
        )
        parent = data["tags"].get(_PARENT)
        if parent and self._is_unknown_here(parent):
            self._ids.put(f"{_ORPHAN}{event.stream}", f"{parent} {created.info.run_id}")
        return created

    def _is_unknown_here(self, run_id: str) -> bool:
        """Return whether an ID is provisional, and the server has no run for it yet."""
        if not self._own_ids or self._ids.get(run_id) is not None:
            return False
        return bool((self._target.announced(run_id) or {}).get("provisional"))

    def _adopt_children(self, source: str, run_id: str) -> None:
        """Set a run as the parent of those that arrived before it, because it was refused at first."""
        from mlflow.entities import RunTag

        for known, noted in self._ids.pairs().items():
            parent, _, child = noted.partition(" ")
            if known.startswith(_ORPHAN) and parent == source:
                self._target.tracking.set_tag(child, RunTag(_PARENT, run_id))

    def _find(self, source: str, started: int | None, *experiments: str) -> Any:
        """Return the copy of a run, or None.

        A run of another server may have the same ID, but then it has another start as well: one server may
        have two addresses.
        """
        from mlflow.entities import ViewType

        found = self._target.tracking.search_runs(
            list(experiments), f"tags.`{SOURCE_TAG}` = '{source}'", ViewType.ALL, max_results=100
        )
        for run in found:
            is_same = run.info.start_time == started or started is None
            if is_same or may_be_from(run.data.tags, self._target.source):
                return run
        return None

    def _exists(self, run_id: str) -> bool:
        try:
            self._target.tracking.get_run(run_id)
        except Exception as error:
            if not is_gone(error):
                raise
            return False
        return True

    def _updated(self, event: Event) -> None:
        from mlflow.entities import RunStatus

        data, run_id = event.data, self.of(event)
        status = RunStatus.from_string(data["status"]) if "status" in data else None
        self._target.tracking.update_run_info(
            run_id, status, data.get("end_time"), data.get("run_name")
        )

    def _stage_changed(self, event: Event) -> None:
        run_id = self.of(event)
        if event.data["stage"] == "deleted":
            self._target.tracking.delete_run(run_id)
        else:
            self._target.tracking.restore_run(run_id)

    # ----- what runs log

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Any],
        params: Sequence[tuple[str, str]],
        tags: Mapping[str, str],
    ) -> None:
        rows = list(_distinct(map(self._metric, metrics)))
        # MLflow skips metrics that it already has, except NaN, which equals nothing, and in MLflow 3.5 those
        # that come after a hundred others. Their histories are read, and only new ones are sent.
        odd = {metric.key for metric in rows if not math.isfinite(metric.value)}
        doubted = [odd, {metric.key for metric in rows} - odd]
        while True:
            try:
                return self._log_in_parts(run_id, rows, params, tags)
            except Exception as error:
                keys = next(filter(None, doubted), set())
                if not keys or not is_duplicate(error):
                    raise
                doubted.remove(keys)
            existing = self._existing(run_id, keys)
            # The model of a metric is stored separately, and its numbers are not refused.
            rows = [
                metric
                for metric in rows
                if _row_key(metric) not in existing
                or (_model_of(metric) and math.isfinite(metric.value))
            ]

    def _log_in_parts(
        self,
        run_id: str,
        metrics: list[Any],
        params: Sequence[tuple[str, str]],
        tags: Mapping[str, str],
    ) -> None:
        from mlflow.entities import Param

        parts = [
            list(_chunks(metrics, _MAX_METRICS)),
            list(_chunks([Param(k, v) for k, v in params], _MAX_PARAMS)),
            list(_chunks(self._tags(tags), _MAX_TAGS)),
        ]
        log_batch = self._target.tracking.log_batch
        # The last request has params and tags: a tag may mark everything else as complete.
        for number in range(-max(map(len, parts)), 0):
            part = [each[number] if -number <= len(each) else [] for each in parts]
            # MLflow accepts at most 1,000 items in total.
            if sum(map(len, part)) > _MAX_METRICS:
                log_batch(run_id, part[0], [], [])
                part[0] = []
            log_batch(run_id, *part)

    def _existing(self, run_id: str, keys: Iterable[str]) -> set[Hashable]:
        """Fetch the histories of some metrics, as the keys of a database's rows."""
        # The client's: without its size of a page a server of MLflow 3.5 returns an empty one.
        fetch = self._target.client.get_metric_history
        return {_row_key(metric) for key in keys for metric in fetch(run_id, key)}

    def _metric(self, row: Sequence[Any]) -> Any:
        from mlflow.entities import Metric

        key, value, timestamp, step, *rest = row
        more = dict(rest[0]) if rest else {}
        if model := more.pop("model_id", None):
            # A server without the model, such as AzureML, still gets the metric.
            known = self._target.known(model)
            more |= {"model_id": known} if known else {}
        return Metric(key, value, timestamp, step, **accepted_arguments(Metric, more))

    def _tags(self, tags: Mapping[str, str]) -> list[Any]:
        from mlflow.entities import RunTag

        return [RunTag(k, self._ids.replaced(v)) for k, v in tags.items()]

    def _tag_deleted(self, event: Event) -> None:
        run_id = self.of(event)
        unless_gone(lambda: self._target.tracking.delete_tag(run_id, event.data["key"]))

    # ----- what runs read and write

    def _inputs_logged(self, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        run_id = self.of(event)
        fields = ("name", "digest", "source_type", "source", "schema", "profile")
        arguments: dict[str, Any] = {
            "datasets": [
                DatasetInput(
                    Dataset(**{name: each[name] for name in fields}),
                    [InputTag(k, v) for k, v in each["tags"].items()],
                )
                for each in event.data.get("datasets", ())
            ]
        }
        if models := event.data.get("models"):
            from mlflow.entities import LoggedModelInput

            arguments["models"] = [LoggedModelInput(self._target.model(each)) for each in models]
        self._target.tracking.log_inputs(run_id, **arguments)

    def _outputs_logged(self, event: Event) -> None:
        from mlflow.entities import LoggedModelOutput

        run_id = self.of(event)
        outputs = [
            LoggedModelOutput(self._target.model(m), step) for m, step in event.data["models"]
        ]
        unless_duplicate(lambda: self._target.tracking.log_outputs(run_id, outputs))

    def _model_recorded(self, event: Event) -> None:
        from mlflow.models import Model

        content = json.loads(self._ids.replaced(json.dumps(event.data["mlmodel"])))
        self._target.tracking.record_logged_model(self.of(event), Model.from_dict(content))


def _distinct(metrics: Iterable[Any]) -> Iterator[Any]:
    """Yield each metric once: with a model, if it was logged with and without one."""
    found: dict[Hashable, dict[str | None, Any]] = {}
    for metric in metrics:
        found.setdefault(_row_key(metric), {})[_model_of(metric)] = metric
    for of_models in found.values():
        if len(of_models) > 1:
            of_models.pop(None, None)
        yield from of_models.values()


def _model_of(metric: Any) -> str | None:
    return getattr(metric, "model_id", None)


def _row_key(metric: Any) -> Hashable:
    """Return what a database tells the metrics of a run apart by: it has one row for equal ones."""
    value = metric.value
    if math.isinf(value):
        # A database stores the greatest number in its place.
        value = math.copysign(sys.float_info.max, value)
    return metric.key, metric.timestamp, metric.step, None if math.isnan(value) else value


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
