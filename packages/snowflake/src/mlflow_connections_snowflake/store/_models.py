"""Logged models, which MLflow has since version 3: what POSTs alone can do for them.

Everything of mlflow that version 2 lacks is imported in the methods, which only version 3 calls.
"""

import logging
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.protos import service_pb2
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.entities.paged_list import PagedList

from mlflow_connections_snowflake._calls import JsonObject

from ._api import PAGE, Api, checked_id, entity, pairs
from ._locations import on_stage
from ._parts import Part
from ._refusals import refusal

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

_logger = logging.getLogger(__name__)

_VERSIONS_TAG = "mlflow.modelVersions"


class LoggedModels(Part):
    """The part of the store that is about logged models."""

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self._models: dict[str, JsonObject] = {}
        self._told_pending = False

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: list[Any] | None = None,
        params: list[Any] | None = None,
        model_type: str | None = None,
    ) -> "LoggedModel":
        """Create a logged model.

        Its artifacts' location is MLflow's own: it is written into the model's file MLmodel, which
        others read. Asked for later, the model tells where they lie on the stage.
        """
        body = {
            "experiment_id": str(experiment_id),
            "name": name,
            "source_run_id": source_run_id,
            "model_type": model_type,
            "tags": pairs(tags or []),
            "params": pairs(params or []),
        }
        content = self._api.post("logged-models", body)["model"]
        self._models[content["info"]["model_id"]] = content
        return _model(content)

    def finalize_logged_model(self, model_id: str, status: Any) -> "LoggedModel":
        """Give the model with its status; MLflow itself keeps the status `pending`.

        To finalize is a PATCH, which no external function can send. MLflow loads a pending model
        as it does any other, so failing here would take more away than it tells.
        """
        from mlflow.entities import LoggedModelStatus

        content = self._models.get(model_id) or self._found(model_id)
        info = content["info"]
        wire = service_pb2.LoggedModelStatus.Name(LoggedModelStatus(status).to_proto())
        if not self._told_pending:
            self._told_pending = True
            _logger.warning(
                "The model %s is stored and can be loaded, but MLflow goes on showing it as "
                "pending: finalizing is a PATCH, which Snowflake's external functions cannot send. "
                "mlflow.MlflowClient().finalize_logged_model(%r, 'READY') outside of Snowflake "
                "sets the status.",
                model_id,
                model_id,
            )
        return self._model_of({**content, "info": {**info, "status": wire}})

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> "LoggedModel":  # noqa: ARG002 - MLflow's signature; a search finds only what is active
        """Give a logged model.

        Raises:
            MlflowException: There is none of this id.
        """
        known = self._models.get(model_id)
        return self._model_of(known or self._found(model_id))

    def _found(self, model_id: str) -> JsonObject:
        model_id = checked_id(model_id, "logged model")
        everywhere = [e.experiment_id for e in self._lookups.experiments("ACTIVE_ONLY")]
        for start in range(0, len(everywhere), PAGE):
            body = {
                "experiment_ids": everywhere[start : start + PAGE],
                "filter": f"model_id = '{model_id}'",
            }
            for content in self._api.post("logged-models/search", body).get("models", []):
                if content["info"]["model_id"] == model_id:
                    return dict(content)
        raise MlflowException(
            f"Logged model with ID '{model_id}' not found.", RESOURCE_DOES_NOT_EXIST
        )

    def search_logged_models(
        self,
        experiment_ids: list[str],
        filter_string: str | None = None,
        datasets: list[dict[str, Any]] | None = None,
        max_results: int | None = None,
        order_by: list[dict[str, Any]] | None = None,
        page_token: str | None = None,
    ) -> "PagedList[LoggedModel]":
        """Give a page of the logged models that match."""
        body = {
            "experiment_ids": [str(experiment_id) for experiment_id in experiment_ids],
            "filter": filter_string,
            "datasets": datasets,
            "max_results": max_results,
            "order_by": order_by,
            "page_token": page_token,
        }
        contents, token = self._lookups.page("logged-models/search", body, "models")
        return PagedList([self._model_of(content) for content in contents], token)

    def set_logged_model_tags(self, model_id: str, tags: list[Any]) -> None:
        """Refuse, but for the tag by which MLflow links a model to its registered version.

        The version itself is registered by then, and links to the model.
        """
        if any(tag.key != _VERSIONS_TAG for tag in tags):
            raise refusal("set_logged_model_tags", "give the tags to log_model instead")
        _logger.warning(
            "The registered version links to the model %s; the link back, a tag of the model, "
            "cannot be set from inside Snowflake.",
            model_id,
        )

    def log_outputs(self, run_id: str, models: list[Any]) -> None:
        """Say which models a run made."""
        outputs = [{"model_id": model.model_id, "step": model.step} for model in models]
        self._api.post("runs/outputs", {"run_id": run_id, "models": outputs})

    def _model_of(self, content: JsonObject) -> "LoggedModel":
        info = content["info"]
        self._models[info["model_id"]] = content
        moved = {**info, "artifact_uri": on_stage(self._api.bridge, info.get("artifact_uri", ""))}
        return _model({**content, "info": moved})


def _model(content: JsonObject) -> "LoggedModel":
    from mlflow.entities import LoggedModel

    model: LoggedModel = entity(LoggedModel, service_pb2.LoggedModel(), content)
    return model
