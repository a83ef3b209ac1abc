"""The tracking store: fluent MLflow over external functions, what is logged sent in batches."""

import atexit
import json
import logging
import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlflow.entities import Experiment, Metric, Param, Run, RunInfo, RunStatus, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils.async_logging.run_operations import RunOperations
from mlflow.utils.proto_json_utils import message_to_json
from mlflow.utils.validation import _validate_metric, _validate_param, _validate_tag

from .._client import REQUEST_TAG
from ._api import Api, milliseconds
from ._batches import Item
from ._bridge import Bridge
from ._history import History
from ._lookups import Lookups
from ._models import LoggedModels
from ._outgoing import Outgoing, RefusedItemsError
from ._refusals import refuse_the_rest

_logger = logging.getLogger(__name__)

_ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})
_EXACT = 2**53
"""Whole numbers below are exact in JavaScript; larger ones travel as text, which MLflow reads too."""

stores: "weakref.WeakSet[SnowflakeTrackingStore]" = weakref.WeakSet()
"""Every store of this process, so that all can be flushed."""


class SnowflakeTrackingStore(LoggedModels, AbstractStore):
    """MLflow's tracking store inside Snowflake.

    Logging waits for company; everything else happens at once, and reading sends first what waits.

    Args:
        store_uri: The tracking URI, which describes the bridge.
    """

    def __init__(self, store_uri: str) -> None:
        AbstractStore.__init__(self)
        LoggedModels.__init__(self)
        self.bridge, _ = Bridge.from_uri(store_uri)
        self._api = Api(self.bridge)
        self._lookups = Lookups(self._api)
        self._history = History()
        self._outgoing = Outgoing(
            lambda body: self._api.client.call("runs/log-batch", body), self.bridge.flush_seconds
        )
        self._known_params: dict[str, dict[str, str]] = {}
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
        import uuid

        request = uuid.uuid4().hex
        body = {
            "name": name,
            "artifact_location": artifact_location,
            "tags": [*_pairs(tags or []), {"key": REQUEST_TAG, "value": request}],
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

    # Runs

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
        with self._told_as_mlflow_does():
            content = self._api.client.create_run(
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
        self.flush()
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

    # Logging

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
        self._api.post("runs/delete-tag", {"run_id": run_id, "key": key})

    def log_batch(
        self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]
    ) -> None:
        """Log metrics, params and tags: checked here and now, sent with others.

        Raises:
            MlflowException: Something of it is invalid, or MLflow refused what was sent with it.
            ConnectionsError: MLflow could not be reached; all waits for the next time.
        """
        for metric in metrics:
            _validate_metric(metric.key, metric.value, metric.timestamp, metric.step)
        checked_params = [_validate_param(param.key, str(param.value)) or param for param in params]
        checked_tags = [_validate_tag(tag.key, str(tag.value)) or tag for tag in tags]
        self._remember_params(run_id, checked_params)
        self._history.add(run_id, list(metrics))
        with self._told_as_mlflow_does():
            self._outgoing.add(
                run_id,
                [_metric_item(metric) for metric in metrics],
                _pairs(checked_params),
                _pairs(checked_tags),
            )

    def log_batch_async(
        self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]
    ) -> RunOperations:
        """Log as `log_batch` does: it waits for nothing anyway, and no thread is needed."""
        self.log_batch(run_id, metrics, params, tags)
        return RunOperations([])

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

    def get_metric_history(
        self,
        run_id: str,
        metric_key: str,
        max_results: int | None = None,  # noqa: ARG002 - there is one page
        page_token: str | None = None,
    ) -> "PagedList[Metric]":
        """Give the values of a metric that this process logged, and the latest one of all."""
        if page_token is not None:
            return PagedList([], None)
        values, is_whole = self._history.of(run_id, metric_key)
        if not is_whole:
            _logger.warning(
                "The history of metric %r of run %s may lack values: from inside Snowflake only "
                "those that this process logged, and the latest one, can be read.",
                metric_key,
                run_id,
            )
            latest = self.get_run(run_id).data._metric_objs  # noqa: SLF001 - with step and time
            known = {(metric.step, metric.timestamp, metric.value) for metric in values}
            values += [
                metric
                for metric in latest
                if metric.key == metric_key
                and (metric.step, metric.timestamp, metric.value) not in known
            ]
        return PagedList(values, None)

    # Flushing

    def flush(self) -> None:
        """Send everything that waits.

        Raises:
            MlflowException: MLflow refused some of it; all else is stored.
            ConnectionsError: MLflow could not be reached; what was not sent waits.
        """
        with self._told_as_mlflow_does():
            self._outgoing.flush_all()

    def flush_async_logging(self) -> None:
        """Send everything that waits: what `mlflow.flush_async_logging()` calls."""
        self.flush()

    def end_async_logging(self) -> None:
        """Do nothing: there is no queue that would have to stop."""

    def shut_down_async_logging(self) -> None:
        """Send everything that waits."""
        self.flush()

    def _flush(self, run_id: str) -> None:
        with self._told_as_mlflow_does():
            self._outgoing.flush(run_id)

    @contextmanager
    def _told_as_mlflow_does(self) -> Iterator[None]:
        from .._errors import MlflowRefusedError
        from ._api import as_mlflow_says

        try:
            yield
        except RefusedItemsError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from error
        except MlflowRefusedError as error:
            raise as_mlflow_says(error) from error

    def _remember_params(self, run_id: str, params: list[Param]) -> None:
        """Refuse at once what MLflow would refuse later: another value for the same param."""
        known = self._known_params.setdefault(run_id, {})
        for param in params:
            before = known.setdefault(param.key, str(param.value))
            if before != str(param.value):
                raise MlflowException(
                    "Changing param values is not allowed. Param with key="
                    f"{param.key!r} was already logged with value={before!r} for run "
                    f"ID={run_id!r}. Attempted logging new value {param.value!r}.",
                    INVALID_PARAMETER_VALUE,
                )


refuse_the_rest(
    SnowflakeTrackingStore,
    AbstractStore,
    kept=frozenset({"search_runs", "log_metric_async", "log_param_async", "set_tag_async"}),
)


@atexit.register
def _flush_at_exit() -> None:
    for store in list(stores):
        try:
            store.flush()
        except Exception as error:  # noqa: BLE001 - the process ends: telling is all that is left
            _logger.error("Not everything that was logged could be sent: %s", error)


def _pairs(given: list[Any]) -> list[Item]:
    return [{"key": one.key, "value": str(one.value)} for one in given]


def _metric_item(metric: Metric) -> Item:
    value = float(metric.value)
    item: Item = {
        "key": metric.key,
        # JSON knows neither; MLflow reads these words.
        "value": value if math.isfinite(value) else _word(value),
        "timestamp": _number(metric.timestamp),
        "step": _number(metric.step or 0),
    }
    # MLflow 3 ties values to a model and to a dataset.
    for name in ("model_id", "dataset_name", "dataset_digest"):
        if (more := getattr(metric, name, None)) is not None:
            item[name] = more
    return item


def _number(number: Any) -> int | str:
    whole = int(number)
    return whole if abs(whole) < _EXACT else str(whole)


def _word(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
