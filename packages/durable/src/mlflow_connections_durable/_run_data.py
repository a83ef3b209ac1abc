"""The data of runs: metrics, params and tags, and the datasets and models that runs read and write."""

import json
from collections.abc import Mapping
from typing import Any

from mlflow.store.entities import PagedList
from mlflow.utils.async_logging.run_operations import RunOperations

from mlflow_connections_events import entities
from mlflow_connections_events.vocabulary import MetricRow

from . import _mlflow
from ._inner_store import InnerStore
from ._local import LocalRun
from ._runs import DurableRuns
from ._server import DurableServer

_MAX_CHECKED = 10_000
_INT64 = 2**63


class DurableRunData:
    """The methods of a tracking store that log to runs, and the histories of metrics.

    Args:
        server: The state of the server in this process.
        inner: The server's own store.
        runs: The runs that are logged to.
    """

    def __init__(self, server: DurableServer, inner: InnerStore, runs: DurableRuns) -> None:
        self._server = server
        self._inner = inner
        self._writable = runs.writable
        self._checked: set[str] = set()

    def log_metric(self, run_id: str, metric: Any) -> None:
        """Log a metric."""
        server, local = self._server, self._writable(run_id)
        rows = [self._row(metric)]
        with server.lock:
            local.add_metrics(rows)
            server.emit(run_id, "logged", {"metrics": rows})

    def log_param(self, run_id: str, param: Any) -> None:
        """Log a param."""
        self.log_batch(run_id, (), (param,), ())

    def set_tag(self, run_id: str, tag: Any) -> None:
        """Set a tag of a run."""
        self.log_batch(run_id, (), (), (tag,))

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        """Log metrics, params and tags.

        Raises:
            MlflowException: A server would refuse one of them; nothing is logged then.
        """
        server, local = self._server, self._writable(run_id)
        _mlflow.check_batch(metrics, params, tags)
        data: dict[str, Any] = {}
        if metrics:
            data["metrics"] = [self._row(metric) for metric in metrics]
        if params:
            checked = [_mlflow.checked_param(p.key, str(p.value)) for p in params]
            data["params"] = dict(checked)
        if tags:
            found = [_mlflow.checked_tag(tag.key, str(tag.value)) for tag in tags]
            data["tags"] = {tag.key: tag.value for tag in found}
        if not data:
            return
        with server.lock:
            if params:
                _refuse_changed(local, data["params"])
                local.params.update(data["params"])
            if metrics:
                local.add_metrics(data["metrics"])
            if tags:
                local.add_tags(data["tags"])
            server.emit(run_id, "logged", data)

    def delete_tag(self, run_id: str, key: str) -> None:
        """Delete a tag.

        Raises:
            MlflowException: The run does not have the tag.
        """
        server, local = self._server, self._writable(run_id)
        with server.lock:
            if key not in local.tags and local.is_seen:
                raise _mlflow.refusal(
                    f"No tag with name: {key} in run with id {run_id}", "RESOURCE_DOES_NOT_EXIST"
                )
            local.tags.pop(key, None)
            server.emit(run_id, "tag_deleted", {"key": key})

    def log_metric_async(self, run_id: str, metric: Any) -> Any:
        """Log a metric; it is kept when this returns."""
        self.log_metric(run_id, metric)
        return RunOperations([])

    def log_param_async(self, run_id: str, param: Any) -> Any:
        """Log a param; it is kept when this returns."""
        self.log_param(run_id, param)
        return RunOperations([])

    def set_tag_async(self, run_id: str, tag: Any) -> Any:
        """Set a tag; it is kept when this returns."""
        self.set_tag(run_id, tag)
        return RunOperations([])

    def log_batch_async(self, run_id: str, metrics: Any, params: Any, tags: Any) -> Any:
        """Log metrics, params and tags; they are kept when this returns."""
        self.log_batch(run_id, metrics, params, tags)
        return RunOperations([])

    def flush_async_logging(self) -> None:
        """Do nothing: logged data is kept."""

    def end_async_logging(self) -> None:
        """Do nothing: logged data is kept."""

    def log_inputs(self, run_id: str, datasets: Any = None, models: Any = None) -> None:
        """Log datasets and models that a run has read."""
        server, local = self._server, self._writable(run_id)
        data: dict[str, Any] = {}
        if datasets:
            _mlflow.check_datasets(datasets)
            data["datasets"] = [entities.dataset(each, entities.keep) for each in datasets]
        if models:
            data["models"] = [each.model_id for each in models]
        if data:
            with server.lock:
                local.datasets += datasets or []
                known = {each.model_id for each in local.input_models}
                local.input_models += [m for m in models or [] if m.model_id not in known]
                server.emit(run_id, "inputs_logged", data)

    def log_outputs(self, run_id: str, models: Any) -> None:
        """Log models that a run has written."""
        server, local = self._server, self._writable(run_id)
        with server.lock:
            local.output_models += models
            rows = [[each.model_id, each.step] for each in models]
            server.emit(run_id, "outputs_logged", {"models": rows})

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """Record a model with its run, as MLflow 2 does."""
        server, local = self._server, self._writable(run_id)
        content = entities.mlmodel(mlflow_model, entities.keep)
        with server.lock:
            history = json.loads(local.tags.get("mlflow.log-model.history") or "[]")
            local.tags["mlflow.log-model.history"] = json.dumps([*history, content])
            server.emit(run_id, "model_recorded", {"mlmodel": content})

    def get_metric_history(
        self,
        run_id: str,
        metric_key: str,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> Any:
        """Return the history of a metric, from memory if this process created the run."""
        with self._server.lock:
            local = self._server.runs.get(run_id)
            points = None if local is None else local.points(metric_key)
        if points is not None:
            return PagedList(points, None)
        remote = self._inner.forwarded("get_metric_history")
        more = {"max_results": max_results, "page_token": page_token}
        return remote(run_id, metric_key, **{k: v for k, v in more.items() if v is not None})

    def _row(self, metric: Any) -> MetricRow:
        """Return a metric as a row of an event.

        Raises:
            MlflowException: A server would refuse it.
        """
        key, value, timestamp, step = metric.key, metric.value, metric.timestamp, metric.step
        # The usual values of a training step: a name that was checked before, and numbers of plain
        # types.
        if (
            key in self._checked
            and type(value) is float
            and type(timestamp) is int
            and type(step) is int
            and 0 <= timestamp < _INT64
            and -_INT64 <= step < _INT64
        ):
            row: MetricRow = [key, value, timestamp, step]
        else:
            _mlflow.check_metric(key, value, timestamp, step or 0)
            if len(self._checked) < _MAX_CHECKED:
                self._checked.add(key)
            row = [key, entities.number(value), int(timestamp), int(step or 0)]
        return [*row, more] if (more := entities.more_of_metric(metric)) else row


def _refuse_changed(local: LocalRun, params: Mapping[str, str]) -> None:
    for key, value in params.items():
        old = local.params.get(key, value)
        if old != value:
            raise _mlflow.refusal(
                f"Changing param values is not allowed. Param with key='{key}' was already logged "
                f"with value='{old}' for run ID='{local.run_id}'. Attempted logging new value "
                f"'{value}'.",
                "INVALID_PARAMETER_VALUE",
            )
