"""Applying the events of logged models, which MLflow 3 introduced."""

from collections.abc import Callable, Mapping
from typing import Any

from mlflow_connections_events.ids import SOURCE_TAG
from mlflow_connections_outbox import Event

from ._experiments import ExperimentApplier
from ._outcome import is_gone, unless_gone
from ._runs import RunApplier
from ._target import ReplayTarget


class ModelApplier:
    """Applies the events of logged models.

    Args:
        target: The server.
        experiments: Finds the experiments of models.
        runs: Finds the source runs of models.
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
            "model_logged": self._logged,
            "model_params_logged": self._params_logged,
            "model_tagged": self._tagged,
            "model_tag_deleted": self._tag_deleted,
            "model_deleted": self._deleted,
        }

    def _logged(self, event: Event) -> None:
        data, known = event.data, self._ids.get(event.data["model_id"])
        if known is None and self._own_ids and data.get("server_id"):
            known = data["model_id"]
        if known is None:
            self._finalize(self._create(event), data)
            return
        try:
            if tags := self._tags(data):
                self._target.tracking.set_logged_model_tags(known, tags)
            self._finalize(known, data)
        except Exception as error:
            if not self._own_ids or not is_gone(error):
                raise
            # The server was restored from an older backup.
            self._finalize(self._create(event), data)

    def _finalize(self, model_id: str, data: Mapping[str, Any]) -> None:
        from mlflow.entities import LoggedModelStatus

        if data["status"] in {"READY", "FAILED"}:
            self._target.tracking.finalize_logged_model(model_id, LoggedModelStatus(data["status"]))

    def _tags(self, data: Mapping[str, Any]) -> list[Any]:
        from mlflow.entities import LoggedModelTag

        return [LoggedModelTag(k, self._ids.replaced(v)) for k, v in data["tags"].items()]

    def _create(self, event: Event) -> str:
        """Create a logged model, or find it, and return its ID."""
        from mlflow.entities import LoggedModelParameter, LoggedModelTag

        data = event.data
        context = data.get("run", {})
        run_id = self._runs.id_of(data["source_run"], context) if data["source_run"] else None
        experiment = self._experiment(data, run_id)
        source = data["model_id"]
        model = self._target.found(event, source, lambda: self._find(source, experiment))
        if model is None:
            model = self._target.tracking.create_logged_model(
                experiment_id=experiment,
                name=data["name"],
                source_run_id=run_id,
                tags=[*self._tags(data), LoggedModelTag(SOURCE_TAG, data["model_id"])],
                params=[LoggedModelParameter(k, v) for k, v in data["params"].items()],
                model_type=data["model_type"],
            )
        source_uri = data.get("artifact_location")
        self._target.know(data["model_id"], model.model_id, source_uri, model.artifact_location)
        return str(model.model_id)

    def _experiment(self, data: Mapping[str, Any], run_id: str | None) -> str:
        if run_id is not None:
            return str(self._target.tracking.get_run(run_id).info.experiment_id)
        return self._experiments.known(data["experiment_id"]) or self._experiments.of(data)

    def _find(self, source: str, experiment: str) -> Any:
        found = self._target.tracking.search_logged_models(
            [experiment], f"tags.`{SOURCE_TAG}` = '{source}'", max_results=1
        )
        return found[0] if found else None

    def _params_logged(self, event: Event) -> None:
        from mlflow.entities import LoggedModelParameter

        params = [LoggedModelParameter(k, v) for k, v in event.data["params"].items()]
        model_id = self._target.model(event.data["model_id"])
        self._target.tracking.log_logged_model_params(model_id, params)

    def _tagged(self, event: Event) -> None:
        from mlflow.entities import LoggedModelTag

        tags = [LoggedModelTag(k, self._ids.replaced(v)) for k, v in event.data["tags"].items()]
        self._target.tracking.set_logged_model_tags(
            self._target.model(event.data["model_id"]), tags
        )

    def _tag_deleted(self, event: Event) -> None:
        model_id = self._target.model(event.data["model_id"])
        unless_gone(
            lambda: self._target.tracking.delete_logged_model_tag(model_id, event.data["key"])
        )

    def _deleted(self, event: Event) -> None:
        model_id = self._target.model(event.data["model_id"])
        unless_gone(lambda: self._target.tracking.delete_logged_model(model_id))
