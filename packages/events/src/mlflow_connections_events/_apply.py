"""Applying events to the stores of an MLflow server. Each function may run twice with one result."""

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mlflow_connections.secrets import masked
from mlflow_connections_outbox import Event, Rejected

from ._mlflow import accepted_arguments, artifact_repository
from ._outcome import (
    CREATED_BEFORE,
    error_code,
    is_duplicate,
    is_gone,
    unless_duplicate,
    unless_gone,
)
from ._traces import APPLY as APPLY_TO_TRACES
from ._traces import TraceApplier
from .ids import SOURCE_TAG, IdMap
from .vocabulary import RUN_KINDS

ATTEMPT_SECONDS = 5.0
"""The time after which a server that responds has also done what it was asked before."""
_MAX_METRICS = 1_000
_MAX_PARAMS = 100
_MAX_TAGS = 100
_PARENT = "mlflow.parentRunId"
_ORPHAN = "child of no run yet: "
"""Opens the key under which the map of IDs notes a run whose parent the server has not."""


class Files(Protocol):
    """Provides the content of artifacts that events name."""

    def fetch(self, event: Event, folder: Path) -> Iterable[tuple[str, Path]]:
        """Return the files of an `artifacts_uploaded` event.

        Args:
            event: The event.
            folder: An empty folder for downloads, removed afterwards.

        Returns:
            For each file its path below the root of its owner, and the local file.
        """


class Applier:
    """Applies events to one server.

    Args:
        tracking: The server's tracking store.
        registry: Returns the server's model registry store.
        client: An `MlflowClient` of the server, for artifacts.
        ids: The map of IDs.
        files: Provides artifacts; without it none are copied.
        own_ids: Whether the IDs of runs that are not provisional (`server_id`) are the destination's own,
            as for a write-behind store. Otherwise every run is created anew.
        announced: Returns the data of the `run_started` event of a run, or None if it is not known any more.
    """

    def __init__(
        self,
        tracking: Any,
        registry: Callable[[], Any],
        client: Any,
        ids: IdMap,
        files: Files | None = None,
        *,
        own_ids: bool = False,
        announced: Callable[[str], Mapping[str, Any] | None] = lambda _: None,
    ) -> None:
        self._tracking = tracking
        self._registry = registry
        self._client = client
        self._ids = ids
        self._files = files
        self._own_ids = own_ids
        self._announced = announced
        self._experiments: dict[str, str] = {}
        self._absent: set[str] = set()
        self._traces = TraceApplier(
            lambda: self._tracking,
            client.tracking_uri,
            ids,
            self._experiment_of,
            self._run_id,
            self._is_absent,
            own_ids=own_ids,
        )

    def expect_absent(self, sources: Iterable[str]) -> None:
        """Note that the server has nothing yet of these IDs of runs, models, versions and traces."""
        self._absent.update(sources)

    def _is_absent(self, source: str) -> bool:
        """Return whether the server has nothing of an ID, once: the response to an attempt may be lost."""
        try:
            self._absent.remove(source)
        except KeyError:
            return False
        return True

    def apply(self, event: Event) -> None:
        """Apply one event.

        Raises:
            Rejected: The event can never be applied.
            Exception: Whatever MLflow raises.
        """
        apply = _APPLY.get(event.kind)
        apply_to_trace = APPLY_TO_TRACES.get(event.kind)
        if apply is None and apply_to_trace is None:
            raise Rejected(
                f"An event cannot be replayed: the kind '{event.kind}' is not known to this version. "
                "Upgrade mlflow-connections-events, then retry.",
                [0],
            )
        try:
            if apply is not None:
                self._unless_restored(event, lambda: apply(self, event))
            elif apply_to_trace is not None:
                apply_to_trace(self._traces, event)
        except json.JSONDecodeError:
            # Of a response: a login page, or a proxy's, in place of the server's.
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise Rejected(
                f"An event '{event.kind}' cannot be replayed: {type(error).__name__}: {error}.", [0]
            ) from masked(error)

    def log(self, events: Sequence[Event]) -> None:
        """Apply `logged` events of one run, in as few requests as MLflow allows."""
        self._unless_restored(events[0], lambda: self._log_together(events))

    def _log_together(self, events: Sequence[Event]) -> None:
        run_id = self._run(events[0])
        metrics = [row for event in events for row in event.data.get("metrics", ())]
        # As pairs: a param with two values must reach the server, which refuses the second.
        params = {pair: None for e in events for pair in e.data.get("params", {}).items()}
        tags = {k: v for e in events for k, v in e.data.get("tags", {}).items()}
        self._log(run_id, metrics, list(params), tags)

    def _unless_restored(self, event: Event, apply: Callable[[], None]) -> None:
        """Apply an event of a run, again if the run is there under another ID than this process knows."""
        try:
            apply()
        except Exception as error:
            if event.kind not in RUN_KINDS or not is_gone(error) or not self._is_found_anew(event):
                raise
            apply()

    def _is_found_anew(self, event: Event) -> bool:
        """Return whether a run that the server has not, under the ID that is known, is there under another.

        The server may have been restored from a backup, or another process created the run and keeps
        the map of IDs elsewhere. A run whose announcement is known is created again.

        Raises:
            Rejected: The server has lost the run, and it cannot be created again.
        """
        mapped = self._ids.get(event.stream)
        known = mapped or (event.stream if self._own_ids else None)
        if known is None or self._has_run(known):
            return False
        data = self._announced(event.stream)
        run = self._find_run(event.stream, *self._all_experiments())
        if run is None and data is not None:
            began = Event(event.stream, "run_started", event.at, data)
            run = self._create_run(began, self._experiment_of(data))
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
        self._know(event.stream, run.info.run_id, source_uri, run.info.artifact_uri)
        self._adopt_children(event.stream, run.info.run_id)
        return True

    def _has_run(self, run_id: str) -> bool:
        try:
            self._tracking.get_run(run_id)
        except Exception as error:
            if not is_gone(error):
                raise
            return False
        return True

    def _all_experiments(self) -> list[str]:
        found: list[str] = []
        token = None
        while True:
            page = self._tracking.search_experiments(max_results=1_000, page_token=token)
            found += [str(experiment.experiment_id) for experiment in page]
            if not (token := page.token):
                return found

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Any],
        params: Sequence[tuple[str, str]],
        tags: Mapping[str, str],
    ) -> None:
        from mlflow.entities import Param

        parts = [
            list(_chunks([self._metric(row) for row in metrics], _MAX_METRICS)),
            list(_chunks([Param(k, v) for k, v in params], _MAX_PARAMS)),
            list(_chunks(self._tags(tags), _MAX_TAGS)),
        ]
        # The last request has params and tags: a tag may say that all the rest has come.
        for number in range(-max(map(len, parts)), 0):
            part = [each[number] if -number <= len(each) else [] for each in parts]
            # MLflow takes at most 1,000 items in all.
            if sum(map(len, part)) > _MAX_METRICS:
                self._log_batch(run_id, part[0], [], [])
                part[0] = []
            self._log_batch(run_id, *part)

    def _log_batch(self, run_id: str, metrics: list[Any], params: Any, tags: Any) -> None:
        try:
            self._tracking.log_batch(run_id, metrics, params, tags)
        except Exception as error:
            odd = [metric for metric in metrics if not math.isfinite(metric.value)]
            if not odd or not is_duplicate(error):
                raise
            # MLflow skips metrics that it has already, except NaN and the infinities.
            rest = [metric for metric in metrics if math.isfinite(metric.value)]
            self._tracking.log_batch(run_id, rest, params, tags)
            for metric in odd:
                unless_duplicate(lambda: self._tracking.log_batch(run_id, [metric], [], []))  # noqa: B023

    def _metric(self, row: Sequence[Any]) -> Any:
        from mlflow.entities import Metric

        key, value, timestamp, step, *rest = row
        more = dict(rest[0]) if rest else {}
        if "model_id" in more:
            more["model_id"] = self._ids.get(more["model_id"]) or more["model_id"]
        return Metric(key, value, timestamp, step, **accepted_arguments(Metric, more))

    def _tags(self, tags: Mapping[str, str]) -> list[Any]:
        from mlflow.entities import RunTag

        return [RunTag(k, self._ids.replaced(v)) for k, v in tags.items()]

    # ----- experiments and runs

    def _experiment_of(self, data: Mapping[str, Any]) -> str:
        """Return the destination's ID of the experiment of a run, a model or a trace.

        Raises:
            Rejected: The experiment is deleted there.
        """
        source = data["experiment_id"]
        name, created = data.get("experiment_name"), data.get("experiment_created")
        return self._experiment(source, name, created)

    def _experiment(self, source: str, name: str | None, created: int | None = None) -> str:
        if self._own_ids and not name:
            return source
        if found := self._experiments.get(source):
            return found
        if created is not None and name and self._is_experiment(source, name, created):
            found = source
        else:
            found = self._find_or_create_experiment(name or f"experiment {source}", None, [])
        self._experiments[source] = found
        if self._own_ids and found != source:
            self._ids.put(f"experiment {source}", found)
        return found

    def _is_experiment(self, known: str, name: str, created: int) -> bool:
        """Return whether the server's experiment of an ID is the one that is meant, perhaps renamed.

        A server that was set up anew, or restored from a backup, may use the ID for another one.

        Raises:
            Rejected: It is, and it is deleted.
        """
        try:
            experiment = self._tracking.get_experiment(known)
        except Exception as error:
            if not is_gone(error):
                raise
            return False
        if experiment.name != name and experiment.creation_time != created:
            return False
        _refuse_deleted(experiment)
        return True

    def _find_or_create_experiment(self, name: str, location: str | None, tags: list[Any]) -> str:
        experiment = self._tracking.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(self._tracking.create_experiment(name, location, tags))
            except Exception as error:
                # Another process was faster, or the response to an earlier attempt was lost.
                experiment = self._tracking.get_experiment_by_name(name)
                if error_code(error) != CREATED_BEFORE or experiment is None:
                    raise
        _refuse_deleted(experiment)
        return str(experiment.experiment_id)

    def _experiment_created(self, event: Event) -> None:
        from mlflow.entities import ExperimentTag

        tags = [ExperimentTag(k, v) for k, v in event.data["tags"].items()]
        # The location belongs to the source's storage, which the destination may not reach.
        location = event.data["artifact_location"] if self._own_ids else None
        created = self._find_or_create_experiment(event.data["name"], location, tags)
        self._experiments[event.stream] = created
        self._ids.put(f"experiment {event.stream}", created)

    def _experiment_tagged(self, event: Event) -> None:
        from mlflow.entities import ExperimentTag

        target = self._ids.get(f"experiment {event.stream}") or self._experiments.get(event.stream)
        if target is None:
            if not self._own_ids:
                raise Rejected(f"The experiment {event.stream} was not announced.", [0])
            target = event.stream
        tag = ExperimentTag(event.data["key"], event.data["value"])
        self._tracking.set_experiment_tag(target, tag)

    def _run_started(self, event: Event) -> None:
        data = event.data
        if self._ids.get(event.stream) or (self._own_ids and data.get("server_id")):
            return
        experiment = self._experiment_of(data)
        run = self._found(event, event.stream, lambda: self._find_run(event.stream, experiment))
        if run is None:
            run = self._create_run(event, experiment)
        self._know(event.stream, run.info.run_id, data.get("artifact_uri"), run.info.artifact_uri)
        self._adopt_children(event.stream, run.info.run_id)
        if run.info.lifecycle_stage == "deleted":
            # It came before, whole; a deleted run takes no values.
            self._tracking.restore_run(run.info.run_id)
        # Its own ID was not known when it was created.
        tags = {k: v for k, v in data["tags"].items() if event.stream in v}
        self._log(run.info.run_id, [], list(data.get("params", {}).items()), tags)

    def _found(self, event: Event, source: str, find: Callable[[], Any]) -> Any:
        """Look for what an event creates, a second time if another process attempted to create it.

        Its request may still be in the queue of a server that responds to the first look.
        """
        if self._is_absent(source):
            return None
        found = find()
        if found is None and event.data.get("attempted"):
            time.sleep(ATTEMPT_SECONDS)
            found = find()
        return found

    def _create_run(self, event: Event, experiment: str) -> Any:
        data = event.data
        tags = {**data["tags"], SOURCE_TAG: event.stream}
        user, start = data["user"] or "", data["start_time"] or event.at
        created = self._tracking.create_run(
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
        return bool((self._announced(run_id) or {}).get("provisional"))

    def _adopt_children(self, source: str, run_id: str) -> None:
        """Name a run as the parent of those that arrived before it, because it was refused at first."""
        from mlflow.entities import RunTag

        for known, noted in self._ids.pairs().items():
            parent, _, child = noted.partition(" ")
            if known.startswith(_ORPHAN) and parent == source:
                self._tracking.set_tag(child, RunTag(_PARENT, run_id))

    def _find_run(self, source: str, *experiments: str) -> Any:
        from mlflow.entities import ViewType

        found = self._tracking.search_runs(
            list(experiments), f"tags.`{SOURCE_TAG}` = '{source}'", ViewType.ALL, max_results=1
        )
        return found[0] if found else None

    def _know(
        self, source: str, target: str, source_uri: str | None, target_uri: str | None
    ) -> None:
        # The ID last: whoever finds it may rely on the rest.
        if source_uri and target_uri:
            self._ids.put(source_uri.rstrip("/"), target_uri.rstrip("/"))
        self._ids.put(source, target)

    def _run(self, event: Event) -> str:
        """Return the destination's ID of the run that an event belongs to."""
        return self._run_id(event.stream, event.data.get("run", {}))

    def _run_id(self, source: str, context: Mapping[str, Any]) -> str:
        if known := self._ids.get(source):
            return known
        if self._own_ids:
            return source
        # The announcement was delivered by a process whose state is not this one's.
        if experiment_id := context.get("experiment_id"):
            experiment = self._experiment(experiment_id, context.get("experiment_name"))
            if (run := self._find_run(source, experiment)) is not None:
                self._know(source, run.info.run_id, None, None)
                return str(run.info.run_id)
        raise Rejected(f"The run {source} was not announced to the destination.", [0])

    def _run_updated(self, event: Event) -> None:
        from mlflow.entities import RunStatus

        data, run_id = event.data, self._run(event)
        status = RunStatus.from_string(data["status"]) if "status" in data else None
        self._tracking.update_run_info(run_id, status, data.get("end_time"), data.get("run_name"))

    def _stage_changed(self, event: Event) -> None:
        run_id = self._run(event)
        if event.data["stage"] == "deleted":
            self._tracking.delete_run(run_id)
        else:
            self._tracking.restore_run(run_id)

    def _logged(self, event: Event) -> None:
        self.log([event])

    def _tag_deleted(self, event: Event) -> None:
        run_id = self._run(event)
        unless_gone(lambda: self._tracking.delete_tag(run_id, event.data["key"]))

    def _inputs_logged(self, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        run_id = self._run(event)
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

            arguments["models"] = [LoggedModelInput(self._model(each)) for each in models]
        self._tracking.log_inputs(run_id, **arguments)

    def _outputs_logged(self, event: Event) -> None:
        from mlflow.entities import LoggedModelOutput

        run_id = self._run(event)
        outputs = [LoggedModelOutput(self._model(m), step) for m, step in event.data["models"]]
        unless_duplicate(lambda: self._tracking.log_outputs(run_id, outputs))

    # ----- models

    def _model(self, source: str) -> str:
        if known := self._ids.get(source):
            return known
        if self._own_ids:
            return source
        raise Rejected(f"The logged model {source} was not announced to the destination.", [0])

    def _model_logged(self, event: Event) -> None:
        data, known = event.data, self._ids.get(event.data["model_id"])
        if known is None and self._own_ids and data.get("server_id"):
            known = data["model_id"]
        if known is None:
            self._finalize(self._create_model(event), data)
            return
        try:
            if tags := self._model_tags(data):
                self._tracking.set_logged_model_tags(known, tags)
            self._finalize(known, data)
        except Exception as error:
            if not self._own_ids or not is_gone(error):
                raise
            # The server was restored from an older backup.
            self._finalize(self._create_model(event), data)

    def _finalize(self, model_id: str, data: Mapping[str, Any]) -> None:
        from mlflow.entities import LoggedModelStatus

        if data["status"] in {"READY", "FAILED"}:
            self._tracking.finalize_logged_model(model_id, LoggedModelStatus(data["status"]))

    def _model_tags(self, data: Mapping[str, Any]) -> list[Any]:
        from mlflow.entities import LoggedModelTag

        return [LoggedModelTag(k, self._ids.replaced(v)) for k, v in data["tags"].items()]

    def _create_model(self, event: Event) -> str:
        """Create a logged model, or find it, and return its ID."""
        from mlflow.entities import LoggedModelParameter, LoggedModelTag

        data = event.data
        context = data.get("run", {})
        run_id = self._run_id(data["source_run"], context) if data["source_run"] else None
        experiment = self._model_experiment(data, run_id)
        source = data["model_id"]
        model = self._found(event, source, lambda: self._find_model(source, experiment))
        if model is None:
            model = self._tracking.create_logged_model(
                experiment_id=experiment,
                name=data["name"],
                source_run_id=run_id,
                tags=[*self._model_tags(data), LoggedModelTag(SOURCE_TAG, data["model_id"])],
                params=[LoggedModelParameter(k, v) for k, v in data["params"].items()],
                model_type=data["model_type"],
            )
        source_uri = data.get("artifact_location")
        self._know(data["model_id"], model.model_id, source_uri, model.artifact_location)
        return str(model.model_id)

    def _model_experiment(self, data: Mapping[str, Any], run_id: str | None) -> str:
        if run_id is not None:
            return str(self._tracking.get_run(run_id).info.experiment_id)
        source = data["experiment_id"]
        known = self._ids.get(f"experiment {source}") or self._experiments.get(source)
        return known or self._experiment_of(data)

    def _find_model(self, source: str, experiment: str) -> Any:
        found = self._tracking.search_logged_models(
            [experiment], f"tags.`{SOURCE_TAG}` = '{source}'", max_results=1
        )
        return found[0] if found else None

    def _model_params_logged(self, event: Event) -> None:
        from mlflow.entities import LoggedModelParameter

        params = [LoggedModelParameter(k, v) for k, v in event.data["params"].items()]
        model_id = self._model(event.data["model_id"])
        self._tracking.log_logged_model_params(model_id, params)

    def _model_tagged(self, event: Event) -> None:
        from mlflow.entities import LoggedModelTag

        tags = [LoggedModelTag(k, self._ids.replaced(v)) for k, v in event.data["tags"].items()]
        self._tracking.set_logged_model_tags(self._model(event.data["model_id"]), tags)

    def _model_tag_deleted(self, event: Event) -> None:
        model_id = self._model(event.data["model_id"])
        unless_gone(lambda: self._tracking.delete_logged_model_tag(model_id, event.data["key"]))

    def _model_deleted(self, event: Event) -> None:
        model_id = self._model(event.data["model_id"])
        unless_gone(lambda: self._tracking.delete_logged_model(model_id))

    def _model_recorded(self, event: Event) -> None:
        from mlflow.models import Model

        content = json.loads(self._ids.replaced(json.dumps(event.data["mlmodel"])))
        self._tracking.record_logged_model(self._run(event), Model.from_dict(content))

    # ----- artifacts

    def _artifacts_uploaded(self, event: Event) -> None:
        if self._files is None:
            return
        upload = self._uploader(event)
        with tempfile.TemporaryDirectory() as temporary:
            for path, file in self._files.fetch(event, Path(temporary)):
                local = self._rewritten(file, Path(temporary)) if file.name == "MLmodel" else file
                upload(local, path.rpartition("/")[0])

    def _uploader(self, event: Event) -> Callable[[Path, str], None]:
        """Return a function that uploads a file to a folder of the owner of an event's files."""
        if trace := event.data.get("trace"):
            return lambda file, folder: self._traces.log_file(trace, file, folder)
        if model := event.data.get("model"):
            model_id = self._model(model)
            return lambda file, folder: self._log_model_file(model_id, file, folder)
        run_id = self._run(event)
        return lambda file, folder: self._client.log_artifact(run_id, str(file), folder or None)

    def _log_model_file(self, model_id: str, file: Path, folder: str) -> None:
        location = self._tracking.get_logged_model(model_id).artifact_location
        repository = artifact_repository(location, self._client.tracking_uri)
        repository.log_artifact(str(file), folder or None)

    def _rewritten(self, file: Path, temporary: Path) -> Path:
        """Return a copy of an MLmodel file that names the destination's IDs and places."""
        folder = temporary / "rewritten"
        folder.mkdir(exist_ok=True)
        copy = folder / file.name
        copy.write_text(
            self._ids.replaced(file.read_text(encoding="utf-8")), encoding="utf-8", newline=""
        )
        return copy

    # ----- the model registry

    def _registered_model_created(self, event: Event) -> None:
        from mlflow.entities.model_registry import RegisteredModelTag

        tags = [RegisteredModelTag(k, v) for k, v in event.data["tags"].items()]
        try:
            self._registry().create_registered_model(event.stream, tags, event.data["description"])
        except Exception as error:
            if error_code(error) != CREATED_BEFORE:
                raise

    def _registered_model_updated(self, event: Event) -> None:
        if new_name := event.data.get("new_name"):
            self._registry().rename_registered_model(event.stream, new_name)
        else:
            self._registry().update_registered_model(event.stream, event.data["description"])

    def _registered_model_tagged(self, event: Event) -> None:
        from mlflow.entities.model_registry import RegisteredModelTag

        tag = RegisteredModelTag(event.data["key"], event.data["value"])
        self._registry().set_registered_model_tag(event.stream, tag)

    def _registered_model_tag_deleted(self, event: Event) -> None:
        key = event.data["key"]
        unless_gone(lambda: self._registry().delete_registered_model_tag(event.stream, key))

    def _registered_model_deleted(self, event: Event) -> None:
        unless_gone(lambda: self._registry().delete_registered_model(event.stream))

    def _version(self, event: Event) -> str:
        source = f"{event.stream}/{event.data['version']}"
        if known := self._ids.get(source):
            return known
        if self._own_ids:
            return str(event.data["version"])
        raise Rejected(f"The model version {source} was not announced to the destination.", [0])

    def _version_created(self, event: Event) -> None:
        from mlflow.entities.model_registry import ModelVersionTag

        data, registry = event.data, self._registry()
        source = f"{event.stream}/{data['version']}"
        if self._ids.get(source):
            return
        version = self._found(event, source, lambda: self._find_version(event.stream, source))
        if version is None:
            tags = {**data["tags"], SOURCE_TAG: source}
            more = {"model_id": self._model(data["model_id"])} if data.get("model_id") else {}
            run = data.get("source_run")
            create = registry.create_model_version
            version = create(
                name=event.stream,
                source=self._place(data["source"]),
                run_id=self._run_id(run, data.get("run", {})) if run else None,
                tags=[ModelVersionTag(k, self._ids.replaced(v)) for k, v in tags.items()],
                run_link=data.get("run_link"),
                description=data.get("description"),
                **accepted_arguments(create, more),
            )
        self._ids.put(source, str(version.version))

    def _find_version(self, name: str, source: str) -> Any:
        token = None
        while True:
            found = self._registry().search_model_versions(
                f"name = '{name}'", max_results=1_000, page_token=token
            )
            for version in found:
                if version.tags.get(SOURCE_TAG) == source:
                    return version
            if not (token := found.token):
                return None

    def _place(self, source: str) -> str:
        """Return the destination's URI for a URI of the source's artifacts."""
        for root, target in self._ids.pairs().items():
            if "/" in root and (source == root or source.startswith(f"{root}/")):
                return target + source[len(root) :]
        return self._ids.replaced(source)

    def _version_updated(self, event: Event) -> None:
        version = self._version(event)
        self._registry().update_model_version(event.stream, version, event.data["description"])

    def _version_tagged(self, event: Event) -> None:
        from mlflow.entities.model_registry import ModelVersionTag

        tag = ModelVersionTag(event.data["key"], self._ids.replaced(event.data["value"]))
        self._registry().set_model_version_tag(event.stream, self._version(event), tag)

    def _version_tag_deleted(self, event: Event) -> None:
        version, key = self._version(event), event.data["key"]
        unless_gone(lambda: self._registry().delete_model_version_tag(event.stream, version, key))

    def _version_deleted(self, event: Event) -> None:
        version = self._version(event)
        unless_gone(lambda: self._registry().delete_model_version(event.stream, version))

    def _stage_transitioned(self, event: Event) -> None:
        data, version = event.data, self._version(event)
        self._registry().transition_model_version_stage(
            event.stream, version, data["stage"], data["archive_existing"]
        )

    def _alias_set(self, event: Event) -> None:
        version = self._version(event)
        self._registry().set_registered_model_alias(event.stream, event.data["alias"], version)

    def _alias_deleted(self, event: Event) -> None:
        alias = event.data["alias"]
        unless_gone(lambda: self._registry().delete_registered_model_alias(event.stream, alias))


def _refuse_deleted(experiment: Any) -> None:
    if experiment.lifecycle_stage != "active":
        raise Rejected(
            f"The experiment {experiment.name!r} is deleted at the destination: restore it, then retry.",
            [0],
        )


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


_APPLY: Mapping[str, Callable[[Applier, Event], None]] = {
    name.removeprefix("_"): function
    for name, function in vars(Applier).items()
    if name
    in {
        *("_experiment_created", "_experiment_tagged"),
        *("_run_started", "_run_updated", "_stage_changed", "_logged", "_tag_deleted"),
        *("_inputs_logged", "_outputs_logged", "_artifacts_uploaded"),
        *("_model_recorded", "_model_logged", "_model_params_logged", "_model_tagged"),
        *("_model_tag_deleted", "_model_deleted"),
        *("_registered_model_created", "_registered_model_updated", "_registered_model_tagged"),
        *("_registered_model_tag_deleted", "_registered_model_deleted"),
        *("_version_created", "_version_updated", "_version_tagged", "_version_tag_deleted"),
        *("_version_deleted", "_stage_transitioned", "_alias_set", "_alias_deleted"),
    }
}
