"""Existing runs of an MLflow server, read as the events that would have made them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from mlflow_connections import InvalidOptionError
from mlflow_connections.secrets import mask_uri
from mlflow_connections_events import entities
from mlflow_connections_events.files import paths_below, repository_of
from mlflow_connections_events.vocabulary import MAX_FILES, RunContext
from mlflow_connections_outbox import Event

_METRICS_OF_ONE_EVENT = 1_000
_PAGE = 1_000


class RunReader:
    """Reads runs of one server.

    Args:
        tracking_uri: The server, which must be in force in this process.
    """

    def __init__(self, tracking_uri: str) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri)
        self._uri = tracking_uri
        self._experiments: dict[str, Any] = {}

    def select(self, names: Iterable[str]) -> list[Any]:
        """Return the runs of experiments, and single runs with their nested ones, parents first.

        Args:
            names: Names or IDs of experiments, and IDs of runs.

        Raises:
            InvalidOptionError: Nothing has this name or ID.
        """
        found: dict[str, Any] = {}
        for name in names:
            for run in self._selected(name):
                found[run.info.run_id] = run
        return sorted(found.values(), key=lambda run: self._depth(run, found))

    def _selected(self, name: str) -> list[Any]:
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            for fetch in (self.client.get_run, self.client.get_experiment):
                thing = _or_none(fetch, name)
                if thing is not None and hasattr(thing, "info"):
                    return self._with_nested(thing)
                experiment = experiment or thing
        if experiment is None:
            raise InvalidOptionError(
                f"{name!r} is neither a run nor an experiment of {mask_uri(self._uri)}."
            )
        return list(self._search(experiment.experiment_id, ""))

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
        for model in self._models(run):
            data = cast("dict[str, Any]", entities.logged_model(model, entities.keep))
            yield event("model_logged", {**data, "status": "PENDING"})
            for files in self._uploads(model.artifact_location):
                yield event("artifacts_uploaded", {**files, "model": model.model_id})
            yield event("model_logged", data)
        for key in run.data.metrics:
            history = entities.metrics(self.client.get_metric_history(stream, key))
            for start in range(0, len(history), _METRICS_OF_ONE_EVENT):
                yield event("logged", {"metrics": history[start : start + _METRICS_OF_ONE_EVENT]})
        yield from (event(kind, data) for kind, data in _inputs_and_outputs(run))
        if run.info.lifecycle_stage == "active":
            for files in self._uploads(run.info.artifact_uri):
                yield event("artifacts_uploaded", files)
        if run.info.status != "RUNNING":
            ended = {"status": run.info.status, "end_time": run.info.end_time}
            yield event("run_updated", ended)
        yield from self._versions(run, context)
        if run.info.lifecycle_stage == "deleted":
            yield event("stage_changed", {"stage": "deleted"})

    def _context(self, run: Any) -> RunContext:
        experiment_id = run.info.experiment_id
        if experiment_id not in self._experiments:
            self._experiments[experiment_id] = self.client.get_experiment(experiment_id)
        context: RunContext = {
            "experiment_id": experiment_id,
            "experiment_name": self._experiments[experiment_id].name,
            "started": run.info.start_time or 0,
        }
        if parent := run.data.tags.get("mlflow.parentRunId"):
            context["parent"] = parent
        return context

    def _models(self, run: Any) -> list[Any]:
        if not hasattr(self.client, "search_logged_models"):
            return []
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_logged_models(
                [run.info.experiment_id],
                f"source_run_id = '{run.info.run_id}'",
                page_token=token,
            )
            found += page
            if not (token := page.token):
                return found

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

    def _versions(self, run: Any, context: RunContext) -> Iterator[Event]:
        at = run.info.start_time or 0
        versions = self.client.search_model_versions(f"run_id = '{run.info.run_id}'")
        for version in sorted(versions, key=lambda each: (each.name, int(each.version))):
            model = self.client.get_registered_model(version.name)
            number = str(version.version)

            def event(kind: str, data: Mapping[str, Any]) -> Event:
                return Event(version.name, kind, at, data, f"{version.name}/{number}.{kind}")  # noqa: B023

            created = {"tags": model.tags, "description": model.description or None}
            yield event("registered_model_created", created)
            data = {
                "version": number,
                "source": version.source,
                "source_run": run.info.run_id,
                "model_id": getattr(version, "model_id", None),
                "run_link": version.run_link or None,
                "tags": version.tags,
                "description": version.description or None,
                "run": context,
            }
            yield event("version_created", data)
            if version.current_stage not in {None, "", "None"}:
                stage = {"version": number, "stage": version.current_stage}
                yield event("stage_transitioned", {**stage, "archive_existing": False})
            for alias, owner in model.aliases.items():
                if str(owner) == number:
                    yield event("alias_set", {"alias": alias, "version": number})


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
        if str(getattr(error, "error_code", "")) in {
            "RESOURCE_DOES_NOT_EXIST",
            "INVALID_PARAMETER_VALUE",
        }:
            return None
        raise
