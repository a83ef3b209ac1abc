"""Runs and experiments by their ids. MLflow's own lookups are GETs: what is here are searches."""

from typing import Any

from mlflow.entities import Experiment, Run, RunInfo
from mlflow.exceptions import MlflowException
from mlflow.protos import service_pb2
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from mlflow_connections_snowflake._calls import JsonObject

from ._api import PAGE, Api, checked_id, entity, mlflow_errors
from ._locations import on_stage


class Lookups:
    """Finds things, and remembers in which experiment each run is."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._experiment_of: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def run(self, run_id: str) -> Run:
        """Give a run, be it deleted or not.

        Raises:
            MlflowException: There is none of this id.
        """
        run_id = checked_id(run_id, "run")
        known = self._experiment_of.get(run_id)
        if known and (found := self._search(run_id, [known])):
            return found
        everywhere = [e.experiment_id for e in self.experiments("ALL")]
        for start in range(0, len(everywhere), PAGE):
            if found := self._search(run_id, everywhere[start : start + PAGE]):
                return found
        raise MlflowException(f"Run with id={run_id} not found", RESOURCE_DOES_NOT_EXIST)

    def _search(self, run_id: str, experiment_ids: list[str]) -> Run | None:
        body = {
            "experiment_ids": experiment_ids,
            "filter": f"attributes.run_id = '{run_id}'",
            "run_view_type": "ALL",
            "max_results": 1,
        }
        runs = self._api.post("runs/search", body).get("runs", [])
        return self.run_of(runs[0]) if runs else None

    def run_of(self, content: JsonObject) -> Run:
        """Make a run of what MLflow gave, its artifacts on the stage."""
        run: Run = entity(Run, service_pb2.Run(), self._with_stage(content))
        self._experiment_of[run.info.run_id] = run.info.experiment_id
        return run

    def run_info_of(self, content: JsonObject) -> RunInfo:
        """Make a run's info of what MLflow gave, its artifacts on the stage."""
        moved = self._with_stage({"info": content})["info"]
        info: RunInfo = entity(RunInfo, service_pb2.RunInfo(), moved)
        return info

    def _with_stage(self, content: JsonObject) -> JsonObject:
        info = content.get("info", {})
        moved = on_stage(self._api.bridge, info.get("artifact_uri", ""))
        return {**content, "info": {**info, "artifact_uri": moved}}

    def experiments(self, view: str, filter_string: str = "") -> list[Experiment]:
        """Give all experiments that a filter finds.

        Args:
            view: ACTIVE_ONLY, DELETED_ONLY or ALL.
            filter_string: In MLflow's language.
        """
        body = {"view_type": view, "filter": filter_string}
        return [
            self.experiment_of(content)
            for content in self._api.pages("experiments/search", body, "experiments")
        ]

    def experiment(self, experiment_id: str) -> Experiment:
        """Give an experiment.

        Raises:
            MlflowException: There is none of this id.
        """
        experiment_id = str(experiment_id)
        name = self._names.get(experiment_id)
        candidates = [] if name is None else [self.experiment_by_name(name)]
        for found in candidates or self.experiments("ALL"):
            if found is not None and found.experiment_id == experiment_id:
                return found
        raise MlflowException(
            f"No Experiment with id={experiment_id} exists", RESOURCE_DOES_NOT_EXIST
        )

    def experiment_by_name(self, name: str) -> Experiment | None:
        """Give the experiment of a name, a deleted one if there is no other; None for neither."""
        with mlflow_errors(), self._api.client() as client:
            active = client.experiment(name)
        if active is not None:
            return self.experiment_of(active)
        # MLflow's filter has no escape: what would end the literal is LIKE's wildcard for one
        # character, and what else that matches is left out.
        plain = not set(name) & set("'\"\\")
        wildcards = "".join("_" if c in "'\"\\" else c for c in name)
        found = self.experiments(
            "DELETED_ONLY", f"name = '{name}'" if plain else f"name LIKE '{wildcards}'"
        )
        return next((experiment for experiment in found if experiment.name == name), None)

    def experiment_of(self, content: JsonObject) -> Experiment:
        """Make an experiment of what MLflow gave, its artifacts on the stage."""
        moved = on_stage(self._api.bridge, content.get("artifact_location", ""))
        found: Experiment = entity(
            Experiment, service_pb2.Experiment(), {**content, "artifact_location": moved}
        )
        self._names[found.experiment_id] = found.name
        return found

    def page(
        self, path: str, body: dict[str, Any], key: str
    ) -> tuple[list[JsonObject], str | None]:
        """Give one page of a search, and the token of the next one."""
        most = min(int(body.get("max_results") or PAGE), PAGE)
        reply = self._api.post(path, {**body, "max_results": most})
        return reply.get(key, []), reply.get("next_page_token") or None
