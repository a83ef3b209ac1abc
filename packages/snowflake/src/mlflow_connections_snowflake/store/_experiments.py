"""Experiments, as the tracking store offers them."""

import uuid
from typing import Any

from mlflow.entities import Experiment, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.store.entities.paged_list import PagedList

from mlflow_connections_snowflake._client import REQUEST_TAG

from ._api import pairs
from ._parts import Part


class Experiments(Part):
    """The part of the store that is about experiments."""

    def search_experiments(
        self,
        view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int | None = None,
        filter_string: str | None = None,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> "PagedList[Experiment]":
        """Give a page of the experiments that match."""
        body = {
            "view_type": ViewType.to_string(view_type).upper(),
            "max_results": max_results,
            "filter": filter_string,
            "order_by": order_by,
            "page_token": page_token,
        }
        contents, token = self._lookups.page("experiments/search", body, "experiments")
        return PagedList([self._lookups.experiment_of(content) for content in contents], token)

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: list[Any] | None = None
    ) -> str:
        """Create an experiment, and give its id.

        Snowflake may deliver the request twice, and then the second one finds it there already.
        """
        request = uuid.uuid4().hex
        body = {
            "name": name,
            "artifact_location": artifact_location,
            "tags": [*pairs(tags or []), {"key": REQUEST_TAG, "value": request}],
        }
        try:
            return str(self._api.post("experiments/create", body)["experiment_id"])
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
            there = self._lookups.experiment_by_name(name)
            if there is None or there.tags.get(REQUEST_TAG) != request:
                raise
            return str(there.experiment_id)

    def get_experiment(self, experiment_id: str) -> Experiment:
        """Give an experiment, by searching for it."""
        return self._lookups.experiment(experiment_id)

    def get_experiment_by_name(self, experiment_name: str) -> Experiment | None:
        """Give the experiment of a name; None where there is none."""
        return self._lookups.experiment_by_name(experiment_name)

    def set_experiment_tag(self, experiment_id: str, tag: Any) -> None:
        """Set a tag of an experiment."""
        body = {"experiment_id": str(experiment_id), "key": tag.key, "value": str(tag.value)}
        self._api.post("experiments/set-experiment-tag", body)
