"""MLflow's REST API over the external functions, with MLflow's own errors and entities.

MLflow looks runs and experiments up by GET. External functions can only POST, so lookups are
searches.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlflow.entities import Experiment, Run, RunInfo
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos import service_pb2
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from mlflow.utils.proto_json_utils import parse_dict

from mlflow_connections.secrets import masked
from mlflow_connections_snowflake._client import Client, FunctionSupport, JsonObject
from mlflow_connections_snowflake._errors import MissingFunctionError, MlflowRefusedError
from mlflow_connections_snowflake._session import exclusive_session

from ._uri import Bridge, on_stage
from ._write_buffer import RefusedItemsError

PAGE = 500
"""Maximum entities per page: Snowflake accepts replies of up to 10 MB."""

_ID = re.compile(r"[\w-]{1,256}")


class Rest:
    """Sends requests through a bridge, and remembers the experiment of each run that was seen.

    Args:
        bridge: The external functions and stages.
    """

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self._support = FunctionSupport()
        self._created: dict[str, JsonObject] = {}
        self._experiment_of: dict[str, str] = {}
        self._names: dict[str, str] = {}

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Yield this package's typed client while holding the session."""
        with exclusive_session(self.bridge.connection) as session:
            yield Client(session, self.bridge.functions, self._support)

    def post(self, path: str, body: JsonObject) -> JsonObject:
        """POST to a path of MLflow's REST API.

        Raises:
            MlflowException: MLflow refused the request; the exception has MLflow's error code.
            ConnectionsError: MLflow could not be reached.
        """
        given = {key: value for key, value in body.items() if value is not None}
        with mlflow_errors(), self.client() as client:
            return client.call(path, given)

    def page(
        self, path: str, body: dict[str, Any], key: str
    ) -> tuple[list[JsonObject], str | None]:
        """Fetch one page of a search, and the token of the next page."""
        most = min(int(body.get("max_results") or PAGE), PAGE)
        reply = self.post(path, {**body, "max_results": most})
        return reply.get(key, []), reply.get("next_page_token") or None

    def pages(self, path: str, body: JsonObject, key: str) -> Iterator[JsonObject]:
        """Fetch all results of a search, page by page."""
        token: str | None = None
        while True:
            contents, token = self.page(path, {**body, "page_token": token}, key)
            yield from contents
            if not token:
                return

    def run(self, run_id: str) -> Run:
        """Fetch a run by ID, including deleted runs.

        Raises:
            MlflowException: The run does not exist.
        """
        run_id = checked_id(run_id, "run")
        try:
            return self._found_run(run_id)
        except MissingFunctionError:
            # Without a function that searches, only the runs of this process are known.
            if run_id in self._created:
                return self.run_of(self._created[run_id])
            raise

    def _found_run(self, run_id: str) -> Run:
        known = self._experiment_of.get(run_id)
        if known and (found := self._search_run(run_id, [known])):
            return found
        everywhere = [e.experiment_id for e in self.experiments("ALL")]
        for start in range(0, len(everywhere), PAGE):
            if found := self._search_run(run_id, everywhere[start : start + PAGE]):
                return found
        raise MlflowException(f"Run with id={run_id} not found", RESOURCE_DOES_NOT_EXIST)

    def _search_run(self, run_id: str, experiment_ids: list[str]) -> Run | None:
        body = {
            "experiment_ids": experiment_ids,
            "filter": f"attributes.run_id = '{run_id}'",
            "run_view_type": "ALL",
            "max_results": 1,
        }
        runs = self.post("runs/search", body).get("runs", [])
        return self.run_of(runs[0]) if runs else None

    def created_run(self, content: JsonObject) -> Run:
        """Return the run in the reply to its creation, and remember it."""
        self._created[content["info"]["run_id"]] = content
        return self.run_of(content)

    def note_status(self, run_id: str, status: str, end_time: int | None) -> None:
        """Remember the new status of a run that this process created."""
        if (run := self._created.get(run_id)) is not None:
            ended = {"status": status, **({} if end_time is None else {"end_time": end_time})}
            self._created[run_id] = {**run, "info": {**run["info"], **ended}}

    def run_of(self, content: JsonObject) -> Run:
        """Return the run in a reply, with its artifact URI moved to the stage."""
        run: Run = entity(Run, service_pb2.Run(), self._with_stage(content))
        self._experiment_of[run.info.run_id] = run.info.experiment_id
        return run

    def run_info_of(self, content: JsonObject) -> RunInfo:
        """Return the run info in a reply, with its artifact URI moved to the stage."""
        moved = self._with_stage({"info": content})["info"]
        info: RunInfo = entity(RunInfo, service_pb2.RunInfo(), moved)
        return info

    def _with_stage(self, content: JsonObject) -> JsonObject:
        info = content.get("info", {})
        moved = on_stage(self.bridge, info.get("artifact_uri", ""))
        return {**content, "info": {**info, "artifact_uri": moved}}

    def experiments(self, view: str, filter_string: str = "") -> list[Experiment]:
        """Fetch all experiments that match a filter.

        Args:
            view: ACTIVE_ONLY, DELETED_ONLY or ALL.
            filter_string: A filter in MLflow's language.
        """
        body = {"view_type": view, "filter": filter_string}
        return [
            self.experiment_of(content)
            for content in self.pages("experiments/search", body, "experiments")
        ]

    def experiment(self, experiment_id: str) -> Experiment:
        """Fetch an experiment by ID, including deleted ones.

        Raises:
            MlflowException: The experiment does not exist.
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
        """Fetch the experiment of a name: the active one, else a deleted one, or None."""
        with mlflow_errors(), self.client() as client:
            active = client.experiment(name)
        if active is not None:
            return self.experiment_of(active)
        # MLflow's filter has no escape. A quote or backslash becomes LIKE's wildcard for one
        # character, and other matches are dropped below.
        plain = not set(name) & set("'\"\\")
        wildcards = "".join("_" if c in "'\"\\" else c for c in name)
        try:
            found = self.experiments(
                "DELETED_ONLY", f"name = '{name}'" if plain else f"name LIKE '{wildcards}'"
            )
        except MissingFunctionError:
            return None
        return next((experiment for experiment in found if experiment.name == name), None)

    def experiment_of(self, content: JsonObject) -> Experiment:
        """Return the experiment in a reply, with its artifact location moved to the stage."""
        moved = on_stage(self.bridge, content.get("artifact_location", ""))
        found: Experiment = entity(
            Experiment, service_pb2.Experiment(), {**content, "artifact_location": moved}
        )
        self._names[found.experiment_id] = found.name
        return found


def as_mlflow_error(error: MlflowRefusedError) -> MlflowException:
    """Return a refusal as MLflow's own client raises it, so that MLflow can handle it."""
    exception: MlflowException = RestException({"error_code": error.code, "message": error.message})
    return exception


@contextmanager
def mlflow_errors() -> Iterator[None]:
    """Raise refusals as MLflow's own client does."""
    try:
        yield
    except RefusedItemsError as error:
        raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from masked(error)
    except MlflowRefusedError as error:
        raise as_mlflow_error(error) from masked(error)


def entity(kind: Any, message: Any, content: JsonObject) -> Any:
    """Return one of MLflow's entities, parsed from a reply of its REST API."""
    parse_dict(content, message)
    return kind.from_proto(message)


def checked_id(identifier: object, kind: str) -> str:
    """Return an ID, or refuse one that cannot go into MLflow's filters, which have no escape.

    Raises:
        MlflowException: It has characters other than letters, digits, `_` and `-`.
    """
    text = str(identifier)
    if not _ID.fullmatch(text):
        raise MlflowException(f"{text!r} is not the ID of a {kind}.", INVALID_PARAMETER_VALUE)
    return text


def pairs(given: list[Any]) -> list[dict[str, Any]]:
    """Return tags or params in their JSON form."""
    return [{"key": one.key, "value": str(one.value)} for one in given]


def milliseconds(number: object) -> int | None:
    """Return a time in its JSON form, or None if there is none."""
    return None if number is None else int(str(number))
