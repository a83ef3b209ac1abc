"""Logged models of MLflow 3, as far as POST requests can handle them.

Names that MLflow 2 lacks are imported inside the methods, which only MLflow 3 calls.
"""

from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.protos import service_pb2
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.entities.paged_list import PagedList

from mlflow_connections.secrets import get_logger
from mlflow_connections_snowflake._client import JsonObject

from ._rest import PAGE, Rest, checked_id, entity, pairs
from ._unsupported import unsupported
from ._uri import on_stage

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

_logger = get_logger(__name__)

_VERSIONS_TAG = "mlflow.modelVersions"


class LoggedModels:
    """Creates and finds logged models, and remembers those of this process.

    Args:
        rest: MLflow's REST API, through the bridge.
    """

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._known: dict[str, JsonObject] = {}
        self._warned_pending = False

    def create(
        self,
        experiment_id: str,
        name: str | None,
        source_run_id: str | None,
        tags: list[Any] | None,
        params: list[Any] | None,
        model_type: str | None,
    ) -> "LoggedModel":
        """Create a logged model.

        The returned model keeps MLflow's own artifact location, which is written into the file
        MLmodel that others read. Later lookups return the location on the stage.
        """
        body = {
            "experiment_id": str(experiment_id),
            "name": name,
            "source_run_id": source_run_id,
            "model_type": model_type,
            "tags": pairs(tags or []),
            "params": pairs(params or []),
        }
        content = self._rest.post("logged-models", body)["model"]
        self._known[content["info"]["model_id"]] = content
        return _model(content)

    def finalize(self, model_id: str, status: Any) -> "LoggedModel":
        """Return the model with its status. MLflow itself keeps the status `pending`.

        Finalizing is a PATCH, which external functions cannot send. MLflow loads a pending model
        like any other, so a warning serves the user better than an error.
        """
        from mlflow.entities import LoggedModelStatus

        content = self._known.get(model_id) or self._found(model_id)
        info = content["info"]
        wire = service_pb2.LoggedModelStatus.Name(LoggedModelStatus(status).to_proto())
        if not self._warned_pending:
            self._warned_pending = True
            _logger.warning(
                "The model %s is stored and can be loaded, but MLflow will show it as pending: "
                "finalizing is a PATCH, which Snowflake's external functions cannot send. "
                "mlflow.MlflowClient().finalize_logged_model(%r, 'READY') outside of Snowflake "
                "sets the status.",
                model_id,
                model_id,
            )
        return self._moved({**content, "info": {**info, "status": wire}})

    def get(self, model_id: str) -> "LoggedModel":
        """Fetch a logged model by ID.

        Raises:
            MlflowException: The model does not exist.
        """
        known = self._known.get(model_id)
        return self._moved(known or self._found(model_id))

    def _found(self, model_id: str) -> JsonObject:
        model_id = checked_id(model_id, "logged model")
        everywhere = [e.experiment_id for e in self._rest.experiments("ACTIVE_ONLY")]
        for start in range(0, len(everywhere), PAGE):
            body = {
                "experiment_ids": everywhere[start : start + PAGE],
                "filter": f"model_id = '{model_id}'",
            }
            for content in self._rest.post("logged-models/search", body).get("models", []):
                if content["info"]["model_id"] == model_id:
                    return dict(content)
        raise MlflowException(
            f"Logged model with ID '{model_id}' not found.", RESOURCE_DOES_NOT_EXIST
        )

    def search(
        self,
        experiment_ids: list[str],
        filter_string: str | None,
        datasets: list[dict[str, Any]] | None,
        max_results: int | None,
        order_by: list[dict[str, Any]] | None,
        page_token: str | None,
    ) -> "PagedList[LoggedModel]":
        """Fetch a page of the logged models that match a filter."""
        body = {
            "experiment_ids": [str(experiment_id) for experiment_id in experiment_ids],
            "filter": filter_string,
            "datasets": datasets,
            "max_results": max_results,
            "order_by": order_by,
            "page_token": page_token,
        }
        contents, token = self._rest.page("logged-models/search", body, "models")
        return PagedList([self._moved(content) for content in contents], token)

    def set_tags(self, model_id: str, tags: list[Any]) -> None:
        """Refuse every tag except the one with which MLflow links a model to its registered version.

        The version is registered by then and links to the model.
        """
        if any(tag.key != _VERSIONS_TAG for tag in tags):
            raise unsupported("set_logged_model_tags", "Pass the tags to log_model instead")
        _logger.warning(
            "The registered version links to the model %s. The link back, a tag of the model, "
            "cannot be set from inside Snowflake.",
            model_id,
        )

    def _moved(self, content: JsonObject) -> "LoggedModel":
        info = content["info"]
        self._known[info["model_id"]] = content
        moved = {**info, "artifact_uri": on_stage(self._rest.bridge, info.get("artifact_uri", ""))}
        return _model({**content, "info": moved})


def _model(content: JsonObject) -> "LoggedModel":
    from mlflow.entities import LoggedModel

    model: LoggedModel = entity(LoggedModel, service_pb2.LoggedModel(), content)
    return model
