"""A typed client of MLflow's tracking over external functions.

The five functions of the specification are enough for plain tracking. The others make it faster and
safer: batches, tags, and runs that are created once although Snowflake delivers a request twice.
The client discovers the available functions by calling them, and remembers the result in
`FunctionSupport`.
"""

import json
import math
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mlflow_connections.secrets import get_logger, masked

from ._errors import BridgeError, MissingFunctionError, MlflowRefusedError, explain, gateway_reply
from ._functions import BY_KEY
from ._names import Identifier

if TYPE_CHECKING:
    from snowflake.snowpark import Row, Session

_logger = get_logger(__name__)

JsonObject = dict[str, Any]
Status = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]

REQUEST_TAG = "mlflow_connections.request"
"""The tag that identifies a run when Snowflake delivers the request for it twice."""

# https://mlflow.org/docs/latest/rest-api.html#log-batch
_METRICS, _PARAMS, _TAGS, _ALL = 1000, 100, 100, 1000
# A gateway's own reply has only these keys; none of MLflow's replies does.
_GATEWAY_KEYS = frozenset({"message", "Message", "statusCode", "status", "code"})


class Metric(NamedTuple):
    """One value of a metric.

    Attributes:
        key: The metric's name.
        value: The value; NaN and infinities are allowed.
        timestamp: Milliseconds since 1970.
        step: The step.
    """

    key: str
    value: float
    timestamp: int
    step: int = 0


class Reply(JsonObject):
    """MLflow's reply; a missing key is an error that quotes the reply.

    Args:
        content: The reply.
        function: The function that returned it.
    """

    def __init__(self, content: Mapping[str, Any], function: str) -> None:
        super().__init__(content)
        self._function = function

    def __missing__(self, key: str) -> Any:
        """Raise the error for a reply that is not MLflow's.

        Raises:
            ConnectionsError: Always.
        """
        raise gateway_reply(self._function, dict(self))


class FunctionSupport:
    """The functions and signatures that an account was found to lack.

    Keep one instance while the account's functions stay the same, so that each is tried only once.
    """

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.short: set[str] = set()
        self.present: set[str] = set()
        self._warned: set[str] = set()

    def warn_once(self, about: str, message: str, *arguments: object) -> None:
        """Log a warning the first time."""
        if about not in self._warned:
            self._warned.add(about)
            _logger.warning(message, *arguments)


class FunctionCaller:
    """Calls external functions in a session.

    No value ever becomes part of a statement: all are bound, VARIANTs as JSON text. Under
    Snowpark's local testing, which does not support SQL, the call uses `call_function` instead.

    Args:
        session: A Snowpark session.
        functions: The name of each function by its key, as in `BridgeConfig.functions`.
        support: The known facts about the account's functions.
    """

    def __init__(
        self, session: "Session", functions: Mapping[str, Identifier], support: FunctionSupport
    ) -> None:
        self._session = session
        self._functions = functions
        self.support = support

    def __call__(self, key: str, *values: object) -> JsonObject:
        """Call a function once and return MLflow's reply.

        The longest signature is called, so that every argument arrives. An account whose function
        only has the required arguments gets those, and a warning names what is left out.

        Args:
            key: The function's key.
            values: Its arguments, in order; None for those that are left out.

        Raises:
            MissingFunctionError: The account does not have the function.
            ConnectionsError: The call failed; see `explain`.
        """
        function = BY_KEY[key]
        if key in self.support.missing:
            raise self._missing(key)
        if key not in self.support.short:
            try:
                reply = self._call(key, values, len(function.arguments))
            except MissingFunctionError:
                if key in self.support.present or len(function.signatures) == 1:
                    self._note_missing(key)
                    raise
            else:
                self.support.present.add(key)
                return reply
        try:
            reply = self._call(key, values, function.required)
        except MissingFunctionError:
            self._note_missing(key)
            raise
        self.support.short.add(key)
        self._warn_left_out(key, values)
        return reply

    def has(self, key: str) -> bool:
        """Return whether a function is not known to be missing."""
        return key not in self.support.missing

    def name(self, key: str) -> Identifier:
        """Return the name of a function."""
        return self._functions[key]

    def _missing(self, key: str) -> MissingFunctionError:
        return MissingFunctionError(
            f"{self._functions[key]} does not exist, or this role may not call it. Run "
            "`mlflow-snowflake check`: it names what is missing and the statement that adds it."
        )

    def _note_missing(self, key: str) -> None:
        # The required functions are tried again: somebody may just have created them.
        if not BY_KEY[key].specified:
            self.support.missing.add(key)

    def _warn_left_out(self, key: str, values: Sequence[object]) -> None:
        function = BY_KEY[key]
        given = zip(function.arguments, values, strict=False)
        # Omitting a time near the present, a step of 0 or this client's tag loses nothing.
        left_out = [
            argument
            for (argument, _), value in list(given)[function.required :]
            if value and argument not in {"timestamp_ms", "start_time_ms", "end_time_ms"}
        ]
        if left_out:
            self.support.warn_once(
                key,
                "%s takes only %s, so %s cannot be passed on: `mlflow-snowflake apply` creates "
                "the function with all arguments.",
                self._functions[key],
                ", ".join(name for name, _ in function.arguments[: function.required]),
                " and ".join(left_out),
            )

    def _call(self, key: str, values: Sequence[object], count: int) -> JsonObject:
        from snowflake.snowpark.exceptions import SnowparkClientException

        name = self._functions[key]
        kinds = [kind for _, kind in BY_KEY[key].arguments[:count]]
        # SQL functions have no keyword arguments, so every argument is passed, None if left out.
        given = [*values, *[None] * (count - len(values))][:count]
        bound = [
            json.dumps(value) if kind == "VARIANT" and value is not None else value
            for kind, value in zip(kinds, given, strict=True)
        ]
        try:
            rows = self._collect(name, kinds, bound)
        except SnowparkClientException as error:
            raise explain(error, str(name)) from masked(error)
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
        # Columns of a frame, each with its own name: of two equal literals, local testing passes
        # only one.
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


class Client:
    """Reaches MLflow through the external functions of a configuration.

    Snowflake repeats a request that failed in transit, so every request may arrive twice. Each call
    is idempotent: the client sets times, and tags a run with the ID of its request if the account
    has the function `run_search`.

    Args:
        session: A Snowpark session, or one of Snowpark's local testing.
        functions: The name of each function by its key, as in `BridgeConfig.functions`.
        support: The known facts about the account's functions, from another client.
    """

    def __init__(
        self,
        session: "Session",
        functions: Mapping[str, Identifier],
        support: FunctionSupport | None = None,
    ) -> None:
        self._calls = FunctionCaller(session, functions, support or FunctionSupport())

    def experiment(self, name: str) -> JsonObject | None:
        """Fetch the active experiment of a name, or None if there is none."""
        found = self._calls("experiment_get_by_name", name).get("experiments", [])
        return found[0] if found else None

    def ensure_experiment(self, name: str) -> str:
        """Fetch the ID of the experiment of a name, creating it if there is none.

        Raises:
            BridgeError: An experiment of this name was deleted, and must be restored first.
            MissingFunctionError: The account cannot create experiments.
        """
        experiment = self.experiment(name)
        if experiment is None:
            try:
                return str(self.call("experiments/create", {"name": name})["experiment_id"])
            except MlflowRefusedError as error:
                if error.code != "RESOURCE_ALREADY_EXISTS":
                    raise
                # Another client was faster, or this is the second delivery of this request.
                experiment = self.experiment(name)
        if experiment is None:
            raise BridgeError(
                f"The experiment {name!r} was deleted. Restore it in MLflow, or use another name."
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
        """Create one run, even if Snowflake delivers the request twice.

        That needs the function `run_search`; without it no run is tagged or looked up.

        Args:
            experiment_id: The experiment.
            run_name: The run's name; by default MLflow generates one.
            start_time: Milliseconds since 1970; now by default.
            tags: The run's tags.
            request_id: Stays the same if the caller itself retries, for example a task after its
                failure. The run of the first attempt is then returned.
        """
        explicit, request_id = request_id is not None, request_id or uuid.uuid4().hex
        tagged = dict(tags or {})
        searches = True
        if explicit or "run_search" not in self._calls.support.present:
            try:
                if run := self.run_of(experiment_id, request_id):
                    return run
            except MissingFunctionError:
                searches = False
        if searches:
            tagged[REQUEST_TAG] = request_id
        created: JsonObject = self._calls(
            "run_create",
            experiment_id,
            run_name,
            _now() if start_time is None else start_time,
            tagged or None,
        )["run"]
        if not searches or "run_create" in self._calls.support.short:
            return created
        return self.run_of(experiment_id, request_id) or created

    def run_of(self, experiment_id: str, request_id: str) -> JsonObject | None:
        """Fetch the run of a request, or None if there is none.

        Duplicates that a second delivery created are deleted. Every client that looks, even at the
        same moment, keeps the same run.
        """
        runs = self._active_runs_of(experiment_id, request_id)
        refusals = [self._delete(double["info"]["run_id"]) for double in runs[1:]]
        if any(refusals) and len(self._active_runs_of(experiment_id, request_id)) > 1:
            raise next(refusal for refusal in refusals if refusal)
        return runs[0] if runs else None

    def _delete(self, run_id: str) -> MlflowRefusedError | None:
        """Delete a run, unless another client or the first delivery of this request already has."""
        try:
            self.call("runs/delete", {"run_id": run_id})
        except MlflowRefusedError as error:
            return error
        return None

    def _active_runs_of(self, experiment_id: str, request_id: str) -> list[JsonObject]:
        # MLflow's filter has no escape for a quote.
        if "'" in request_id or "\\" in request_id:
            raise BridgeError(
                f"The request ID {request_id!r} must not contain a quote or a backslash."
            )
        found = self.search_runs([experiment_id], f"tags.`{REQUEST_TAG}` = '{request_id}'")
        runs: list[JsonObject] = found.get("runs", [])
        return sorted(runs, key=lambda run: str(run["info"]["run_id"]))

    def update_run(self, run_id: str, status: Status, end_time: int | None = None) -> JsonObject:
        """Set a run's status. A status that ends the run also sets its end, by default to now."""
        if end_time is None and status in {"FINISHED", "FAILED", "KILLED"}:
            end_time = _now()
        return self._calls("run_update", run_id, status, end_time)

    def log_metric(
        self, run_id: str, key: str, value: float, timestamp: int | None = None, step: int = 0
    ) -> None:
        """Log one metric. For many, `log_batch` needs one statement instead of one for each."""
        timestamp = _now() if timestamp is None else timestamp
        if not math.isfinite(value) and self._calls.has("run_log_batch"):
            # JSON has neither NaN nor infinities, so they travel as text in a payload.
            try:
                self.log_batch(run_id, metrics=[Metric(key, value, timestamp, step)])
            except MissingFunctionError:
                pass
            else:
                return
        self._log_single(run_id, key, value, timestamp, step)

    def _log_single(self, run_id: str, key: str, value: float, timestamp: int, step: int) -> None:
        if math.isinf(value):
            # A NaN arrives as NULL, which translators can read. Infinities are lost.
            raise MissingFunctionError(
                f"The metric {key!r} is {value}, which {self._calls.name('run_log_metric')} cannot "
                f"pass on. It needs {self._calls.name('run_log_batch')}: run `mlflow-snowflake "
                "apply`."
            )
        self._calls("run_log_metric", run_id, key, float(value), timestamp, step)

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
        """Log any number of metrics, params and tags, in order, in as few statements as possible.

        Returns:
            The number of statements: one for each 1000 metrics or 100 params or tags.

        Raises:
            MissingFunctionError: The account does not have the function `run_log_batch`.
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
        """Fetch a page of the active runs that match a filter: `runs`, and `next_page_token`."""
        return self._calls(
            "run_search",
            list(experiment_ids),
            filter_string,
            max_results,
            list(order_by),
            page_token,
        )

    def call(self, path: str, body: Mapping[str, Any]) -> JsonObject:
        """POST to a path of MLflow's REST API.

        Uses the function `call` if its translator allows the path. Without that function, uses the
        function for the path, as far as its arguments allow.

        Raises:
            MissingFunctionError: The account has no function for this.
        """
        if self._calls.has("call"):
            try:
                return self._calls("call", path, dict(body))
            except MissingFunctionError:
                if self._calls.has("call"):
                    raise
        replacement = self._replacements().get(path)
        if replacement is None:
            raise MissingFunctionError(
                f"MLflow's {path} needs the function {self._calls.name('call')}, which this "
                "account does not have or this role may not call: run `mlflow-snowflake apply`."
            )
        return replacement(dict(body))

    def _replacements(self) -> dict[str, Callable[[JsonObject], JsonObject]]:
        return {
            "runs/search": self._search,
            "runs/update": self._update,
            "runs/log-batch": self._batch,
        }

    def _search(self, body: JsonObject) -> JsonObject:
        return self.search_runs(
            body["experiment_ids"],
            body.get("filter") or "",
            body.get("max_results") or 100,
            body.get("order_by") or (),
            body.get("page_token"),
        )

    def _update(self, body: JsonObject) -> JsonObject:
        if body.get("run_name"):
            raise MissingFunctionError(
                f"Changing a run's name needs the function {self._calls.name('call')}, which this "
                "account does not have or this role may not call: run `mlflow-snowflake apply`."
            )
        return self.update_run(body["run_id"], body["status"], body.get("end_time"))

    def _batch(self, body: JsonObject) -> JsonObject:
        """Log a batch through `run_log_batch`, or value by value."""
        run_id = body["run_id"]
        if self._calls.has("run_log_batch"):
            payload = {key: body.get(key, []) for key in ("metrics", "params", "tags")}
            known = {"key", "value", "timestamp", "step"}
            payload["metrics"] = [
                {key: value for key, value in one.items() if key in known}
                for one in payload["metrics"]
            ]
            try:
                return self._calls("run_log_batch", run_id, payload)
            except MissingFunctionError:
                if self._calls.has("run_log_batch"):
                    raise
        for one in body.get("params", []):
            self.log_parameter(run_id, one["key"], one["value"])
        for one in body.get("tags", []):
            self._tag(run_id, one["key"], one["value"])
        for one in body.get("metrics", []):
            self._log_single(
                run_id,
                one["key"],
                float(one["value"]),
                int(one.get("timestamp") or _now()),
                int(one.get("step") or 0),
            )
        return Reply({}, "")

    def _tag(self, run_id: str, key: str, value: str) -> None:
        try:
            self.set_tag(run_id, key, value)
        except MissingFunctionError:
            self._calls.support.warn_once(
                "tags",
                "Tags such as %r cannot be set without the function %s.",
                key,
                self._calls.name("run_set_tag"),
            )


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
            f"{name} returned no object under 'body', so it is not the function that "
            "`mlflow-snowflake apply` creates. Apply again."
        )
    if body and set(body) <= _GATEWAY_KEYS:
        raise gateway_reply(str(name), body)
    return Reply(body, str(name))


def _now() -> int:
    return time.time_ns() // 1_000_000


def _pair(key: str, value: object) -> dict[str, str]:
    return {"key": key, "value": str(value)}


def _metric(metric: Metric) -> dict[str, object]:
    value = float(metric.value)
    return {
        "key": metric.key,
        # Python would write NaN and infinities as words that are not JSON.
        "value": value if math.isfinite(value) else str(value),
        "timestamp": metric.timestamp,
        "step": metric.step,
    }
