"""MLflow's tracking store over Snowflake's external functions; logged values are sent in batches."""

import atexit
import json
import math
import uuid
import weakref
from collections import defaultdict
from typing import Any

import mlflow

# Imported before the exit handler below is registered: handlers run in reverse order, and
# Snowpark's closes the sessions that ours still needs.
import snowflake.snowpark  # noqa: F401
from mlflow.entities import (
    Experiment,
    Metric,
    Param,
    Run,
    RunInfo,
    RunStatus,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    ErrorCode,
)
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils.async_logging.run_operations import RunOperations
from mlflow.utils.proto_json_utils import message_to_json

from mlflow_connections.secrets import get_logger, masked
from mlflow_connections_snowflake._client import REQUEST_TAG, JsonObject

from . import _mlflow
from ._logged_models import LoggedModels
from ._rest import Rest, milliseconds, mlflow_errors, pairs
from ._unsupported import mark_unsupported
from ._uri import SCHEME, Bridge
from ._write_buffer import Item, RefusedItemsError, WriteBuffer

_logger = get_logger(__name__)

HISTORY_LIMIT = 100_000
"""The number of metric values remembered over all runs, about 24 MB with MLflow 3.17."""

_ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})
_EXACT = 2**53
"""JavaScript is exact below this number. Larger integers travel as text, which MLflow also reads."""

stores: "weakref.WeakSet[SnowflakeTrackingStore]" = weakref.WeakSet()
"""Every store of this process, so that all can be flushed."""


class MetricHistory:
    """The metric values that this process logged. MLflow's own history is a GET, which cannot be sent.

    When more than `HISTORY_LIMIT` values are remembered, the run that logged first is forgotten.
    """

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[Metric]]] = {}
        self._complete: set[str] = set()
        self._count = 0

    def begin(self, run_id: str) -> None:
        """Start a run that was just created, so that its history in this process is complete."""
        self._values[run_id] = defaultdict(list)
        self._complete.add(run_id)

    def add(self, run_id: str, metrics: list[Metric]) -> None:
        """Add values of a run."""
        values = self._values.setdefault(run_id, defaultdict(list))
        for metric in metrics:
            values[metric.key].append(metric)
        self._count += len(metrics)
        while self._count > HISTORY_LIMIT:
            oldest = next(iter(self._values))
            self._count -= sum(map(len, self._values.pop(oldest).values()))
            self._complete.discard(oldest)

    def end(self, run_id: str) -> None:
        """Stop treating a run's history as complete: another process may resume the run."""
        self._complete.discard(run_id)

    def of(self, run_id: str, key: str) -> tuple[list[Metric], bool]:
        """Return the values of a metric, and whether they are known to be complete."""
        return list(self._values.get(run_id, {}).get(key, ())), run_id in self._complete


class SnowflakeTrackingStore(AbstractStore):
    """MLflow's tracking store inside Snowflake.

    Logged values are collected in a write buffer. Every other call is sent at once, and reads flush
    first.

    Args:
        store_uri: The tracking URI, which describes the bridge.
    """

    def __init__(self, store_uri: str) -> None:
        AbstractStore.__init__(self)
        self.bridge, _ = Bridge.from_uri(store_uri)
        self._rest = Rest(self.bridge)
        self._history = MetricHistory()
        self._models = LoggedModels(self._rest)
        self._buffer = WriteBuffer(self._send, self.bridge.flush_seconds, self.bridge.burst)
        self._params: dict[str, dict[str, str]] = {}
        stores.add(self)

    # Experiments

    def search_experiments(
        self,
        view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int | None = None,
        filter_string: str | None = None,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> "PagedList[Experiment]":
        """Fetch a page of the experiments that match a filter."""
        body = {
            "view_type": ViewType.to_string(view_type).upper(),
            "max_results": max_results,
            "filter": filter_string,
            "order_by": order_by,
            "page_token": page_token,
        }
        contents, token = self._rest.page("experiments/search", body, "experiments")
        return PagedList([self._rest.experiment_of(content) for content in contents], token)

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: list[Any] | None = None
    ) -> str:
        """Create an experiment and return its ID.

        Snowflake may deliver the request twice. The second delivery is refused because the name
        exists; a tag shows whether the same request created it.
        """
        request = uuid.uuid4().hex
        body = {
            "name": name,
            "artifact_location": artifact_location,
            "tags": [*pairs(tags or []), {"key": REQUEST_TAG, "value": request}],
        }
        try:
            return str(self._rest.post("experiments/create", body)["experiment_id"])
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
            existing = self._rest.experiment_by_name(name)
            if existing is None or existing.tags.get(REQUEST_TAG) != request:
                raise
            return str(existing.experiment_id)

    def get_experiment(self, experiment_id: str) -> Experiment:
        """Fetch an experiment by ID, through a search."""
        return self._rest.experiment(experiment_id)

    def get_experiment_by_name(self, experiment_name: str) -> Experiment | None:
        """Fetch the experiment of a name, or None if there is none."""
        return self._rest.experiment_by_name(experiment_name)

    def set_experiment_tag(self, experiment_id: str, tag: Any) -> None:
        """Set a tag of an experiment."""
        body = {"experiment_id": str(experiment_id), "key": tag.key, "value": str(tag.value)}
        self._rest.post("experiments/set-experiment-tag", body)

    # Runs

    def create_run(
        self,
        experiment_id: str,
        user_id: str,  # noqa: ARG002 - MLflow itself records it as a tag
        start_time: int | None,
        tags: list[Any] | None,
        run_name: str | None,
    ) -> Run:
        """Create one run, or return the run that an existing `mlflow_connections.request` tag finds."""
        given = {tag.key: str(tag.value) for tag in tags or []}
        request = given.pop(REQUEST_TAG, None)
        with mlflow_errors(), self._rest.client() as client:
            content = client.create_run(
                str(experiment_id), run_name, milliseconds(start_time), given, request_id=request
            )
        run = self._rest.created_run(content)
        if request is None:
            self._history.begin(run.info.run_id)
        return run

    def get_run(self, run_id: str) -> Run:
        """Fetch a run by ID, through a search."""
        self._flush(run_id)
        return self._rest.run(run_id)

    def update_run_info(
        self,
        run_id: str,
        run_status: int | None,
        end_time: int | None,
        run_name: str | None,
    ) -> RunInfo:
        """Set a run's status, end and name. Buffered values are sent first."""
        status = None if run_status is None else RunStatus.to_string(run_status)
        refused: RefusedItemsError | None = None
        try:
            self._buffer.flush(run_id)
        except RefusedItemsError as error:
            refused = error
        body = {
            "run_id": run_id,
            "status": status,
            "end_time": milliseconds(end_time),
            "run_name": run_name,
        }
        info = self._rest.run_info_of(self._rest.post("runs/update", body)["run_info"])
        if status is not None:
            self._rest.note_status(run_id, status, milliseconds(end_time))
        if status in _ENDED:
            self._history.end(run_id)
            self._params.pop(run_id, None)
        if refused and status in {"FAILED", "KILLED"}:
            # The user must see the error that ended the run, not this one.
            _logger.error("%s", refused)
        elif refused:
            raise MlflowException(str(refused), INVALID_PARAMETER_VALUE) from masked(refused)
        return info

    def delete_run(self, run_id: str) -> None:
        """Delete a run."""
        self._flush(run_id)
        self._rest.post("runs/delete", {"run_id": run_id})

    def _search_runs(
        self,
        experiment_ids: list[str],
        filter_string: str | None,
        run_view_type: int,
        max_results: int | None,
        order_by: list[str] | None,
        page_token: str | None,
    ) -> tuple[list[Run], str | None]:
        with mlflow_errors():
            self._buffer.flush_all()
        body = {
            "experiment_ids": [str(experiment_id) for experiment_id in experiment_ids],
            "filter": filter_string,
            "run_view_type": ViewType.to_string(run_view_type).upper(),
            "max_results": max_results,
            "order_by": order_by,
            "page_token": page_token,
        }
        contents, token = self._rest.page("runs/search", body, "runs")
        return [self._rest.run_of(content) for content in contents], token

    def log_inputs(
        self, run_id: str, datasets: list[Any] | None = None, models: list[Any] | None = None
    ) -> None:
        """Record the datasets and models that a run used."""
        body = {
            "run_id": run_id,
            "datasets": [json.loads(message_to_json(d.to_proto())) for d in datasets or []],
        }
        if models:
            body["models"] = [json.loads(message_to_json(m.to_proto())) for m in models]
        self._rest.post("runs/log-inputs", body)

    def log_outputs(self, run_id: str, models: list[Any]) -> None:
        """Record the models that a run produced."""
        outputs = [{"model_id": model.model_id, "step": model.step} for model in models]
        self._rest.post("runs/outputs", {"run_id": run_id, "models": outputs})

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """Record that a run produced a model, as MLflow 2 does."""
        model_json = json.dumps(mlflow_model.get_tags_dict())
        self._rest.post("runs/log-model", {"run_id": run_id, "model_json": model_json})

    # Metrics, params and tags

    def log_metric(self, run_id: str, metric: Metric) -> None:
        """Log a metric."""
        self.log_batch(run_id, [metric], [], [])

    def log_param(self, run_id: str, param: Param) -> None:
        """Log a param."""
        self.log_batch(run_id, [], [param], [])

    def set_tag(self, run_id: str, tag: RunTag) -> None:
        """Set a tag."""
        self.log_batch(run_id, [], [], [tag])

    def delete_tag(self, run_id: str, key: str) -> None:
        """Delete a tag."""
        self._flush(run_id)
        self._rest.post("runs/delete-tag", {"run_id": run_id, "key": key})

    def log_batch(
        self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]
    ) -> None:
        """Check metrics, params and tags now, and send them together with others.

        Raises:
            MlflowException: A value is invalid, or MLflow refused values sent by this call.
            ConnectionsError: MLflow could not be reached. Everything stays in the buffer.
        """
        checked_params, checked_tags = _mlflow.validated(metrics, params, tags)
        self._remember_params(run_id, checked_params)
        self._history.add(run_id, list(metrics))
        with mlflow_errors():
            self._buffer.add(
                run_id,
                [_metric_item(metric) for metric in metrics],
                pairs(checked_params),
                pairs(checked_tags),
            )

    def log_batch_async(
        self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]
    ) -> RunOperations:
        """Log as `log_batch` does, which does not wait for MLflow and needs no thread."""
        self.log_batch(run_id, metrics, params, tags)
        return RunOperations([])

    def get_metric_history(
        self,
        run_id: str,
        metric_key: str,
        max_results: int | None = None,  # noqa: ARG002 - there is one page
        page_token: str | None = None,
    ) -> "PagedList[Metric]":
        """Return the values of a metric that this process logged, and fetch the latest of all."""
        if page_token is not None:
            return PagedList([], None)
        values, is_complete = self._history.of(run_id, metric_key)
        if not is_complete:
            _logger.warning(
                "The history of metric %r of run %s may be incomplete: inside Snowflake only "
                "the values that this process logged and the latest value can be read.",
                metric_key,
                run_id,
            )
            self._flush(run_id)
            known = {(metric.step, metric.timestamp, metric.value) for metric in values}
            values += [
                metric
                for metric in _mlflow.latest_metrics(self._rest.run(run_id))
                if metric.key == metric_key
                and (metric.step, metric.timestamp, metric.value) not in known
            ]
        return PagedList(values, None)

    def flush(self) -> None:
        """Send all buffered values.

        Raises:
            MlflowException: MLflow refused some of them. All others are stored.
            ConnectionsError: MLflow could not be reached. Unsent values stay in the buffer.
        """
        with mlflow_errors():
            self._buffer.flush_all()

    def flush_async_logging(self) -> None:
        """Send all buffered values; `mlflow.flush_async_logging()` calls this."""
        self.flush()

    def end_async_logging(self) -> None:
        """Do nothing: there is no queue to stop."""

    def shut_down_async_logging(self) -> None:
        """Do nothing: MLflow calls this just before it ends a run, which sends buffered values.

        An error raised here would leave the run without its end.
        """

    # Logged models: MLflow 3 calls these

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: list[Any] | None = None,
        params: list[Any] | None = None,
        model_type: str | None = None,
    ) -> Any:
        """Create a logged model."""
        return self._models.create(experiment_id, name, source_run_id, tags, params, model_type)

    def finalize_logged_model(self, model_id: str, status: Any) -> Any:
        """Return the model with its status, which MLflow keeps showing as pending."""
        return self._models.finalize(model_id, status)

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> Any:  # noqa: ARG002 - MLflow's signature; the search finds active models only
        """Fetch a logged model by ID, through a search."""
        return self._models.get(model_id)

    def search_logged_models(
        self,
        experiment_ids: list[str],
        filter_string: str | None = None,
        datasets: list[dict[str, Any]] | None = None,
        max_results: int | None = None,
        order_by: list[dict[str, Any]] | None = None,
        page_token: str | None = None,
    ) -> "PagedList[Any]":
        """Fetch a page of the logged models that match a filter."""
        return self._models.search(
            experiment_ids, filter_string, datasets, max_results, order_by, page_token
        )

    def set_logged_model_tags(self, model_id: str, tags: list[Any]) -> None:
        """Refuse every tag except the one that links a model to its registered version."""
        self._models.set_tags(model_id, tags)

    def _send(self, body: JsonObject) -> None:
        # Uses the generic function: `run_log_batch` has no argument for a value's model or dataset.
        with self._rest.client() as client:
            client.call("runs/log-batch", body)

    def _flush(self, run_id: str) -> None:
        with mlflow_errors():
            self._buffer.flush(run_id)

    def _remember_params(self, run_id: str, params: list[Param]) -> None:
        """Refuse a second value for a param immediately, as MLflow would when it is sent."""
        known = self._params.setdefault(run_id, {})
        for param in params:
            before = known.setdefault(param.key, str(param.value))
            if before != str(param.value):
                raise MlflowException(
                    "Changing param values is not allowed. Param with key="
                    f"{param.key!r} was already logged with value={before!r} for run "
                    f"ID={run_id!r}. Attempted logging new value {param.value!r}.",
                    INVALID_PARAMETER_VALUE,
                )


mark_unsupported(
    SnowflakeTrackingStore,
    AbstractStore,
    kept=frozenset({"search_runs", "log_metric_async", "log_param_async", "set_tag_async"}),
)


def _metric_item(metric: Metric) -> Item:
    value = float(metric.value)
    item: Item = {
        "key": metric.key,
        # JSON has neither NaN nor infinities. MLflow reads these words instead.
        "value": value if math.isfinite(value) else _word(value),
        "timestamp": _number(metric.timestamp),
        "step": _number(metric.step or 0),
    }
    # MLflow 3 ties a value to a model and to a dataset.
    for name in ("model_id", "dataset_name", "dataset_digest"):
        if (more := getattr(metric, name, None)) is not None:
            item[name] = more
    return item


def _number(number: Any) -> int | str:
    whole = int(number)
    return whole if abs(whole) < _EXACT else str(whole)


def _word(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


@atexit.register
def _at_exit() -> None:
    """End the active run as MLflow does at exit, while a session still exists; then flush."""
    try:
        if stores and mlflow.get_tracking_uri().startswith(f"{SCHEME}:"):
            mlflow.end_run()
        for store in list(stores):
            store.flush()
    except Exception as error:  # noqa: BLE001 - the process ends, so logging is all that is left
        _logger.critical("Not everything that was logged could be sent: %s", error)
