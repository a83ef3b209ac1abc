"""Logged models of MLflow 3: created without the server if it does not respond."""

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList

from mlflow_connections_events import entities
from mlflow_connections_events.ids import SOURCE_TAG

from . import _mlflow
from ._artifacts import DurableOwner, register_owner
from ._experiments import DurableExperiments
from ._inner_store import InnerStore, refuse, unless_away
from ._patience import Away
from ._server import DurableServer
from ._uri import SCHEME

_VERSIONS_TAG = "mlflow.modelVersions"


class DurableModels:
    """The methods of a tracking store that concern logged models.

    Args:
        server: The state of the server in this process.
        inner: The server's own store.
        experiments: The experiments of models.
    """

    def __init__(
        self, server: DurableServer, inner: InnerStore, experiments: DurableExperiments
    ) -> None:
        self._server = server
        self._inner = inner
        self._experiments = experiments

    def create_logged_model(
        self,
        experiment_id: Any,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: Any = None,
        params: Any = None,
        model_type: str | None = None,
    ) -> Any:
        """Create a logged model; it has a provisional ID if the server does not respond."""
        _mlflow.check_model_name(name)
        server, key = self._server, f"m-{uuid.uuid4().hex}"
        name = name or _mlflow.random_name()
        experiment = server.real_experiment(str(experiment_id))
        run_id = server.real(source_run_id) if source_run_id else None
        unsure = False
        if experiment is not None and (not source_run_id or run_id is not None):
            try:
                model = self._inner.ask(
                    lambda store: store.create_logged_model(
                        experiment_id=experiment,
                        name=name,
                        source_run_id=run_id,
                        tags=[*(tags or []), _model_tag(SOURCE_TAG, key)],
                        params=params,
                        model_type=model_type,
                    ),
                    of_every_server=False,
                )
            except Away as away:
                unsure = away.unsure
            else:
                model.tags.pop(SOURCE_TAG, None)
                return self._announce_model(model, source_run_id, server_id=True)
        return self._announce_model(
            self._provisional_model(
                key, str(experiment_id), name, source_run_id, tags, params, model_type
            ),
            source_run_id,
            server_id=False,
            unsure=unsure,
        )

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> Any:
        """Return a logged model, from memory if this process created it."""
        server = self._server
        if found := server.models.get(model_id):
            return found
        real = server.real(model_id)
        if real is None:
            refuse(server, None, f"the logged model {model_id}")
        more = {"allow_deleted": True} if allow_deleted else {}
        try:
            self._inner.catch_up()
            model = self._inner.ask(
                lambda store: store.get_logged_model(real, **more), of_every_server=False
            )
        except Away as away:
            refuse(server, away, f"the logged model {model_id}")
        self._own_model(model, is_whole=False)
        return model

    def search_logged_models(
        self, experiment_ids: Any, filter_string: str | None = None, *rest: Any, **more: Any
    ) -> Any:
        """Search logged models; without the server among those that this process created."""
        try:
            return self._inner.forwarded("search_logged_models")(
                experiment_ids, filter_string, *rest, **more
            )
        except MlflowException as error:
            name = _only_name(filter_string)
            if error.error_code != "TEMPORARILY_UNAVAILABLE" or name is None:
                raise
            wanted = {str(each) for each in experiment_ids}
            found = [
                model
                for model in self._server.models.values()
                if model.name == name and str(model.experiment_id) in wanted
            ]
            if not found:
                raise
            return PagedList(found, None)

    def finalize_logged_model(self, model_id: str, status: Any) -> Any:
        """Set the status of a logged model."""
        model = self.get_logged_model(model_id)
        with self._server.lock:
            changed = _changed_model(model, status=status)
            self._own_model(changed, is_whole=model_id in self._server.models)
            self._server.models[model_id] = changed
            self._emit_model(changed)
        return changed

    def log_logged_model_params(self, model_id: str, params: Any) -> None:
        """Log params of a logged model."""
        values = entities.pairs(params, entities.keep)
        self._change_model(model_id, "model_params_logged", {"params": values})
        if model := self._server.models.get(model_id):
            self._server.models[model_id] = _changed_model(model, params={**model.params, **values})

    def set_logged_model_tags(self, model_id: str, tags: Any) -> None:
        """Set tags of a logged model, except versions that the server or the shipper adds when they exist."""
        values = entities.pairs(tags, entities.keep)
        if versions := self._versions_to_name(values.pop(_VERSIONS_TAG, "[]")):
            values[_VERSIONS_TAG] = json.dumps(versions)
        if not values:
            return
        self._change_model(model_id, "model_tagged", {"tags": values})
        if model := self._server.models.get(model_id):
            self._server.models[model_id] = _changed_model(model, tags={**model.tags, **values})

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        """Delete a tag of a logged model."""
        self._change_model(model_id, "model_tag_deleted", {"key": key})
        if model := self._server.models.get(model_id):
            tags = {k: v for k, v in model.tags.items() if k != key}
            self._server.models[model_id] = _changed_model(model, tags=tags)

    def delete_logged_model(self, model_id: str) -> None:
        """Delete a logged model."""
        self._change_model(model_id, "model_deleted", {})
        self._server.models.pop(model_id, None)

    def _versions_to_name(self, text: str) -> list[dict[str, str]]:
        """Return the versions that MLflow's client adds to its tag of a model and nobody else does."""
        # A registry of the tracking server writes the tag itself.
        if text == "[]" or not _mlflow.is_unity_catalog_in_force():
            return []
        waiting = self._server.versions
        return [v for v in json.loads(text) if (v["name"], str(v["version"])) not in waiting]

    # ----- the models of this process

    def _change_model(self, model_id: str, kind: str, data: Mapping[str, Any]) -> None:
        model = self._server.models.get(model_id)
        if model is None and self._server.model_records.get(model_id) is None:
            unless_away(lambda: self.get_logged_model(model_id))
        stream = (model.source_run_id if model is not None else None) or model_id
        self._server.emit(stream, kind, {"model_id": model_id, **data})

    def _provisional_model(
        self,
        key: str,
        experiment_id: str,
        name: str,
        run_id: str | None,
        tags: Any,
        params: Any,
        model_type: str | None,
    ) -> Any:
        from mlflow.entities import LoggedModel, LoggedModelStatus

        now = time.time_ns() // 1_000_000
        self._server.provisional_models.add(key)
        return LoggedModel(
            experiment_id,
            key,
            name,
            f"{SCHEME}:/{experiment_id}/models/{key}/artifacts",
            now,
            now,
            model_type=model_type,
            source_run_id=run_id,
            status=LoggedModelStatus.PENDING,
            tags=entities.pairs(tags, entities.keep),
            params=entities.pairs(params, entities.keep),
        )

    def _announce_model(
        self, model: Any, run_id: str | None, *, server_id: bool, unsure: bool = False
    ) -> Any:
        server = self._server
        if run_id and model.source_run_id != run_id:
            model = _changed_model(model, source_run_id=run_id)
        with server.lock:
            server.models[model.model_id] = model
            self._own_model(model, is_whole=True)
            server.model_records.add(
                model.model_id, {"name": model.name, "run": run_id, "provisional": not server_id}
            )
            self._emit_model(model, unsure=unsure)
        return model

    def _emit_model(self, model: Any, *, unsure: bool = False) -> None:
        server = self._server
        data = {
            **entities.logged_model(model, entities.keep),
            "server_id": model.model_id not in server.provisional_models,
            "experiment_name": self._experiments.name_of(str(model.experiment_id)),
        }
        if unsure:
            data["attempted"] = True
        server.emit(model.source_run_id or model.model_id, "model_logged", data)

    def _own_model(self, model: Any, *, is_whole: bool) -> None:
        if model.artifact_location:
            run_id = model.source_run_id or None
            location = model.artifact_location
            register_owner(DurableOwner(self._server, location, run_id, model.model_id, is_whole))


def _changed_model(model: Any, **changes: Any) -> Any:
    from mlflow.entities import LoggedModel

    values = {
        "experiment_id": model.experiment_id,
        "model_id": model.model_id,
        "name": model.name,
        "artifact_location": model.artifact_location,
        "creation_timestamp": model.creation_timestamp,
        "last_updated_timestamp": time.time_ns() // 1_000_000,
        "model_type": model.model_type,
        "source_run_id": model.source_run_id,
        "status": model.status,
        "status_message": model.status_message,
        "tags": dict(model.tags),
        "params": dict(model.params),
        "metrics": model.metrics,
        **changes,
    }
    return LoggedModel(**values)


def _only_name(filter_string: str | None) -> str | None:
    """Return the name if a filter requires exactly one name and nothing else."""
    key, _, value = (filter_string or "").partition("=")
    value = value.strip()
    if key.strip() == "name" and len(value) > 2 and value[0] == value[-1] == "'":
        return value[1:-1]
    return None


def _model_tag(key: str, value: str) -> Any:
    from mlflow.entities import LoggedModelTag

    return LoggedModelTag(key, value)
