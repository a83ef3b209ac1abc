"""Runs and their inputs, as the tracking store offers them."""

import json
import logging
from typing import Any

from mlflow.entities import Run, RunInfo, RunStatus, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.utils.proto_json_utils import message_to_json

from mlflow_connections_snowflake._client import REQUEST_TAG

from ._api import milliseconds, mlflow_errors
from ._outgoing import RefusedItemsError
from ._parts import Part

_logger = logging.getLogger(__name__)

_ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})


class Runs(Part):
    """The part of the store that is about runs."""

    def create_run(
        self,
        experiment_id: str,
        user_id: str,  # noqa: ARG002 - MLflow itself keeps it in a tag by now
        start_time: int | None,
        tags: list[Any] | None,
        run_name: str | None,
    ) -> Run:
        """Create one run; a tag `mlflow_connections.request` that is there already finds its run."""
        given = {tag.key: str(tag.value) for tag in tags or []}
        request = given.pop(REQUEST_TAG, None)
        with mlflow_errors(), self._api.client() as client:
            content = client.create_run(
                str(experiment_id), run_name, milliseconds(start_time), given, request_id=request
            )
        run = self._lookups.run_of(content)
        if request is None:
            self._history.begin(run.info.run_id)
        return run

    def get_run(self, run_id: str) -> Run:
        """Give a run, by searching for it."""
        self._flush(run_id)
        return self._lookups.run(run_id)

    def update_run_info(
        self,
        run_id: str,
        run_status: int | None,
        end_time: int | None,
        run_name: str | None,
    ) -> RunInfo:
        """Set a run's status, end and name; one that ends is first sent all that waits."""
        status = None if run_status is None else RunStatus.to_string(run_status)
        refused: RefusedItemsError | None = None
        try:
            self._outgoing.flush(run_id)
        except RefusedItemsError as error:
            refused = error
        body = {
            "run_id": run_id,
            "status": status,
            "end_time": milliseconds(end_time),
            "run_name": run_name,
        }
        info = self._lookups.run_info_of(self._api.post("runs/update", body)["run_info"])
        if status in _ENDED:
            self._history.end(run_id)
            self._known_params.pop(run_id, None)
        if refused and status in {"FAILED", "KILLED"}:
            # The error that ended the run is the one that its author has to see.
            _logger.error("%s", refused)
        elif refused:
            raise MlflowException(str(refused), INVALID_PARAMETER_VALUE) from refused
        return info

    def delete_run(self, run_id: str) -> None:
        """Delete a run."""
        self._flush(run_id)
        self._api.post("runs/delete", {"run_id": run_id})

    def _search_runs(
        self,
        experiment_ids: list[str],
        filter_string: str | None,
        run_view_type: int,
        max_results: int | None,
        order_by: list[str] | None,
        page_token: str | None,
    ) -> tuple[list[Run], str | None]:
        self._flush_all()
        body = {
            "experiment_ids": [str(experiment_id) for experiment_id in experiment_ids],
            "filter": filter_string,
            "run_view_type": ViewType.to_string(run_view_type).upper(),
            "max_results": max_results,
            "order_by": order_by,
            "page_token": page_token,
        }
        contents, token = self._lookups.page("runs/search", body, "runs")
        return [self._lookups.run_of(content) for content in contents], token

    def log_inputs(
        self, run_id: str, datasets: list[Any] | None = None, models: list[Any] | None = None
    ) -> None:
        """Say which datasets and models a run used."""
        body = {
            "run_id": run_id,
            "datasets": [json.loads(message_to_json(d.to_proto())) for d in datasets or []],
        }
        if models:
            body["models"] = [json.loads(message_to_json(m.to_proto())) for m in models]
        self._api.post("runs/log-inputs", body)

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """Record that a run made a model, as MLflow 2 does."""
        model_json = json.dumps(mlflow_model.get_tags_dict())
        self._api.post("runs/log-model", {"run_id": run_id, "model_json": model_json})
