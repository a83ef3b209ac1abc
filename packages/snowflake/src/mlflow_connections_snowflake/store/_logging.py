"""Metrics, params and tags: checked when they are logged, sent in batches."""

import logging
import math
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.store.entities.paged_list import PagedList
from mlflow.utils.async_logging.run_operations import RunOperations
from mlflow.utils.validation import _validate_metric, _validate_param, _validate_tag

from ._api import mlflow_errors, pairs
from ._batches import Item
from ._parts import Part

_logger = logging.getLogger(__name__)

_EXACT = 2**53
"""Whole numbers below are exact in JavaScript; larger ones travel as text, which MLflow reads too."""


class Logging(Part):
    """The part of the store that takes what is logged."""

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
        with mlflow_errors():
            self._outgoing.add(
                run_id,
                [_metric_item(metric) for metric in metrics],
                pairs(checked_params),
                pairs(checked_tags),
            )

    def log_batch_async(
        self, run_id: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]
    ) -> RunOperations:
        """Log as `log_batch` does: it waits for nothing anyway, and no thread is needed."""
        self.log_batch(run_id, metrics, params, tags)
        return RunOperations([])

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
            self._flush(run_id)
            latest = self._lookups.run(run_id).data._metric_objs
            known = {(metric.step, metric.timestamp, metric.value) for metric in values}
            values += [
                metric
                for metric in latest
                if metric.key == metric_key
                and (metric.step, metric.timestamp, metric.value) not in known
            ]
        return PagedList(values, None)

    def flush(self) -> None:
        """Send everything that waits.

        Raises:
            MlflowException: MLflow refused some of it; all else is stored.
            ConnectionsError: MLflow could not be reached; what was not sent waits.
        """
        with mlflow_errors():
            self._outgoing.flush_all()

    def flush_async_logging(self) -> None:
        """Send everything that waits: what `mlflow.flush_async_logging()` calls."""
        self.flush()

    def end_async_logging(self) -> None:
        """Do nothing: there is no queue that would have to stop."""

    def shut_down_async_logging(self) -> None:
        """Do nothing: MLflow calls this just before it ends a run, which sends what waits.

        An error here would leave the run without its end.
        """

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
