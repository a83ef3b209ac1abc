"""Calling one external function: values are bound, names are checked, the answer is parsed."""

import json
import math
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ._errors import BridgeError, MlflowRefusedError, explain
from ._functions import BY_KEY
from ._names import Identifier

if TYPE_CHECKING:
    from snowflake.snowpark import Row, Session


JsonObject = dict[str, Any]


class FunctionCaller:
    """FunctionCaller external functions in a session, always with their longest signature.

    No value ever becomes part of a statement: all are bound, VARIANTs as JSON text. Under
    Snowpark's local testing, which knows no SQL, the same goes through `call_function`.

    Args:
        session: A Snowpark session.
        functions: The name of each function by its key, as `BridgeConfig.functions` has it.
    """

    def __init__(self, session: "Session", functions: Mapping[str, Identifier]) -> None:
        self._session = session
        self._functions = functions

    def __call__(self, key: str, *values: object) -> JsonObject:
        """Call a function once, and give MLflow's reply.

        Args:
            key: Which function.
            values: Its arguments, in order; None for those that are left out.

        Raises:
            ConnectionsError: It failed; what `explain` made of it.
        """
        from snowflake.snowpark.exceptions import SnowparkClientException

        name = self._functions[key]
        kinds = [kind for _, kind in BY_KEY[key].arguments]
        # A function has no keywords in SQL, so every argument is given, None for what is left out.
        given = [*values, *[None] * (len(kinds) - len(values))]
        bound = [
            json.dumps(value) if kind == "VARIANT" and value is not None else value
            for kind, value in zip(kinds, given, strict=True)
        ]
        try:
            rows = self._collect(name, kinds, bound)
        except SnowparkClientException as error:
            raise explain(error, str(name)) from error
        return _reply(rows, name)

    def _collect(self, name: Identifier, kinds: list[str], bound: list[object]) -> "list[Row]":
        marks = ", ".join("PARSE_JSON(?)" if kind == "VARIANT" else "?" for kind in kinds)
        try:
            statement = self._session.sql(f"SELECT {name.sql}({marks})", params=bound)
        except NotImplementedError:
            return self._collect_locally(name, kinds, bound)
        return statement.collect()

    def _collect_locally(
        self, name: Identifier, kinds: list[str], bound: list[object]
    ) -> "list[Row]":
        from snowflake.snowpark.functions import call_function, col, parse_json
        from snowflake.snowpark.types import (
            DataType,
            DoubleType,
            LongType,
            StringType,
            StructField,
            StructType,
        )

        types: dict[str, DataType] = {"NUMBER": LongType(), "FLOAT": DoubleType()}
        # Columns of a frame, each with a name of its own: of two equal literals, local testing
        # hands over only one.
        names = [f"A{index}" for index in range(len(kinds))]
        fields = [
            StructField(column, types.get(kind, StringType()))
            for column, kind in zip(names, kinds, strict=True)
        ]
        columns = [
            parse_json(col(column)) if kind == "VARIANT" else col(column)
            for column, kind in zip(names, kinds, strict=True)
        ]
        frame = self._session.create_dataframe([bound], StructType(fields))
        return frame.select(call_function(name.sql, *columns)).collect()


def _reply(rows: "list[Row]", name: Identifier) -> JsonObject:
    value = rows[0][0] if rows else None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    body = value.get("body") if isinstance(value, dict) else None
    if not isinstance(body, dict):
        raise BridgeError(
            f"{name} gave no object under 'body': it is not the function that "
            "`mlflow-snowflake apply` creates; apply again."
        )
    return body


Status = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]

REQUEST_TAG = "mlflow_connections.request"
"""The tag that makes a run recognisable when Snowflake delivers the request for it twice."""

# https://mlflow.org/docs/latest/rest-api.html#log-batch
_METRICS, _PARAMS, _TAGS, _ALL = 1000, 100, 100, 1000


class Metric(NamedTuple):
    """One value of a metric.

    Attributes:
        key: Its name.
        value: Its value; NaN and infinities are allowed.
        timestamp: Milliseconds since 1970.
        step: The step it belongs to.
    """

    key: str
    value: float
    timestamp: int
    step: int = 0


class Client:
    """Reaches MLflow through the external functions of a setup.

    Snowflake repeats a request that failed on its way, so everything may arrive twice. Each call
    is written so that this changes nothing: times are set here, and a run carries its request's id.

    Args:
        session: A Snowpark session, also one of Snowpark's local testing.
        functions: The name of each function by its key, as `BridgeConfig.functions` has it.
    """

    def __init__(self, session: "Session", functions: Mapping[str, Identifier]) -> None:
        self._calls = FunctionCaller(session, functions)

    def experiment(self, name: str) -> JsonObject | None:
        """Give the active experiment of a name, None where there is none."""
        found = self._calls("experiment_get_by_name", name).get("experiments", [])
        return found[0] if found else None

    def ensure_experiment(self, name: str) -> str:
        """Give the id of the experiment of a name, which is created where there is none.

        Raises:
            BridgeError: One of this name was deleted, and has to be restored first.
        """
        experiment = self.experiment(name)
        if experiment is None:
            try:
                return str(self.call("experiments/create", {"name": name})["experiment_id"])
            except MlflowRefusedError as error:
                if error.code != "RESOURCE_ALREADY_EXISTS":
                    raise
                # Somebody was faster, or this is the second delivery of our own request.
                experiment = self.experiment(name)
        if experiment is None:
            raise BridgeError(
                f"The experiment {name!r} was deleted: restore it in MLflow, or use another name."
            )
        return str(experiment["experiment_id"])

    def create_run(
        self,
        experiment_id: str,
        run_name: str | None = None,
        start_time: int | None = None,
        tags: Mapping[str, str] | None = None,
        *,
        request_id: str | None = None,
    ) -> JsonObject:
        """Create one run, also where Snowflake delivers the request twice.

        Args:
            experiment_id: Where it belongs.
            run_name: Its name; MLflow makes one up otherwise.
            start_time: Milliseconds since 1970; now by default.
            tags: Its tags.
            request_id: What is the same when the caller itself tries again, a task after its
                failure for one: then the run of the first try is given.
        """
        if request_id is not None and (run := self.run_of(experiment_id, request_id)):
            return run
        request_id = request_id or uuid.uuid4().hex
        created = self._calls(
            "run_create",
            experiment_id,
            run_name,
            _now() if start_time is None else start_time,
            {**(tags or {}), REQUEST_TAG: request_id},
        )["run"]
        return self.run_of(experiment_id, request_id) or created

    def run_of(self, experiment_id: str, request_id: str) -> JsonObject | None:
        """Give the run of a request, None where there is none.

        Others that a second delivery made are deleted. Which one stays is the same for everybody
        who looks, also at the same moment.
        """
        runs = self._active_runs_of(experiment_id, request_id)
        refusals = [self._delete(double["info"]["run_id"]) for double in runs[1:]]
        if any(refusals) and len(self._active_runs_of(experiment_id, request_id)) > 1:
            raise next(refusal for refusal in refusals if refusal)
        return runs[0] if runs else None

    def _delete(self, run_id: str) -> MlflowRefusedError | None:
        """Delete a run, which another caller, or the first delivery of this request, may have done."""
        try:
            self.call("runs/delete", {"run_id": run_id})
        except MlflowRefusedError as error:
            return error
        return None

    def _active_runs_of(self, experiment_id: str, request_id: str) -> list[JsonObject]:
        # The id is ours or the caller's; MLflow's filter has no escape for a quote.
        if "'" in request_id or "\\" in request_id:
            raise BridgeError(f"The request id {request_id!r} may hold no quote and no backslash.")
        found = self.search_runs([experiment_id], f"tags.`{REQUEST_TAG}` = '{request_id}'")
        runs: list[JsonObject] = found.get("runs", [])
        return sorted(runs, key=lambda run: str(run["info"]["run_id"]))

    def update_run(self, run_id: str, status: Status, end_time: int | None = None) -> JsonObject:
        """Set a run's status; a status that ends it sets its end too, by default to now."""
        if end_time is None and status in {"FINISHED", "FAILED", "KILLED"}:
            end_time = _now()
        return self._calls("run_update", run_id, status, end_time)

    def log_metric(
        self, run_id: str, key: str, value: float, timestamp: int | None = None, step: int = 0
    ) -> None:
        """Log one metric; for many, `log_batch` takes one statement in place of one for each."""
        timestamp = _now() if timestamp is None else timestamp
        if math.isfinite(value):
            self._calls("run_log_metric", run_id, key, float(value), timestamp, step)
        else:
            # JSON has no such number on any part of the way: it travels as text in a payload.
            self.log_batch(run_id, metrics=[Metric(key, value, timestamp, step)])

    def log_parameter(self, run_id: str, key: str, value: object) -> None:
        """Log one parameter, as text."""
        self._calls("run_log_parameter", run_id, key, str(value))

    def set_tag(self, run_id: str, key: str, value: object) -> None:
        """Set one tag, as text."""
        self._calls("run_set_tag", run_id, key, str(value))

    def log_batch(
        self,
        run_id: str,
        metrics: Iterable[Metric] = (),
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> int:
        """Log any number of metrics, params and tags, in order, with as few statements as possible.

        Returns:
            How many statements it took: one for each 1000 metrics or 100 params or tags.
        """
        rest_metrics, rest_params, rest_tags = (
            iter(metrics),
            iter((params or {}).items()),
            iter((tags or {}).items()),
        )
        statements = 0
        while True:
            some_params = [_pair(*pair) for pair in islice(rest_params, _PARAMS)]
            some_tags = [_pair(*pair) for pair in islice(rest_tags, _TAGS)]
            room = min(_METRICS, _ALL - len(some_params) - len(some_tags))
            some_metrics = [_metric(metric) for metric in islice(rest_metrics, room)]
            payload = {"metrics": some_metrics, "params": some_params, "tags": some_tags}
            if not any(payload.values()):
                return statements
            self._calls("run_log_batch", run_id, payload)
            statements += 1

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str = "",
        max_results: int = 100,
        order_by: Sequence[str] = (),
        page_token: str | None = None,
    ) -> JsonObject:
        """Give a page of the active runs that match a filter: `runs`, and `next_page_token`."""
        return self._calls(
            "run_search",
            list(experiment_ids),
            filter_string,
            max_results,
            list(order_by),
            page_token,
        )

    def call(self, path: str, body: Mapping[str, Any]) -> JsonObject:
        """POST to another path of MLflow's REST API, if the function's translator allows it."""
        return self._calls("call", path, dict(body))


def _now() -> int:
    return time.time_ns() // 1_000_000


def _pair(key: str, value: object) -> dict[str, str]:
    return {"key": key, "value": str(value)}


def _metric(metric: Metric) -> dict[str, object]:
    value = float(metric.value)
    return {
        "key": metric.key,
        # Python writes NaN and infinities into JSON as words that JSON does not know.
        "value": value if math.isfinite(value) else str(value),
        "timestamp": metric.timestamp,
        "step": metric.step,
    }
