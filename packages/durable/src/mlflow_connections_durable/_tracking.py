"""The tracking store: writes become events, reads of one's own runs are answered here, the rest goes to the server."""

import copy
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from mlflow.entities import Experiment, LifecycleStage, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from mlflow.store.entities import PagedList
from mlflow.utils.async_logging.run_operations import RunOperations

from mlflow_connections.secrets import get_logger, mask_uri
from mlflow_connections_events import entities, keeps_its_uri, proxy
from mlflow_connections_events.ids import SOURCE_TAG
from mlflow_connections_events.vocabulary import MetricRow

from . import _mlflow
from ._artifacts import DurableOwner, register_owner, wrap_artifacts
from ._delivering import is_delivering
from ._experiment_ids import is_provisional_experiment, provisional_experiment
from ._local import LocalRun
from ._methods import replaced_methods
from ._patience import Away
from ._server import (
    FLUSH_SECONDS,
    RUN_END_SECONDS,
    DurableServer,
    host_of,
)
from ._traces import DurableTraces
from ._uri import SCHEME

logger = get_logger("mlflow_connections_durable")

_ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})
_PARENT = "mlflow.parentRunId"
_NAME = "mlflow.runName"
_MAX_RUNS = 10_000
_RACE_SECONDS = 10
"""The longest time between the two calls of one `mlflow.set_experiment`."""
_READS = ("get_", "search_", "list_", "batch_get_", "query_", "find_")
_SERVER_WRITES_IT = "mlflow.modelVersions"
_DEFAULT = "0"
_INT64 = 2**63


def durable_tracking(
    server: DurableServer, inner: Any | None, enabled: Callable[[], bool] | None = None
) -> Any:
    """Return the tracking store of a server.

    Args:
        server: What this process shares of the server.
        inner: The server's own store; None for `offline`.
        enabled: Returns whether the store is still in force; None if it always is.
    """
    store = inner if inner is not None else _mlflow.store_without_server()
    methods = DurableTracking(server, store if inner is not None else None).methods(store)
    if enabled is not None:
        methods = {
            name: _while(enabled, method, getattr(store, name)) for name, method in methods.items()
        }
    wrap_artifacts()
    return proxy(store, methods, None if inner is None else _mlflow.base_of(store))


def _while(
    enabled: Callable[[], bool], method: Callable[..., Any], plain: Callable[..., Any]
) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return (method if enabled() else plain)(*args, **kwargs)

    return call


class DurableTracking:
    """The methods of a tracking store that answer from here.

    Args:
        server: What this process shares of the server.
        inner: The server's own store, or None for `offline`.
    """

    def __init__(self, server: DurableServer, inner: Any | None) -> None:
        self._server = server
        self._inner = inner
        self._asking = None if inner is None else _mlflow.asking_store(inner)
        server.asking = self._asking
        self._credentials: Any = None
        self._checked: set[str] = set()
        self._missing: dict[str, float] = {}
        self._ending = threading.local()

    def methods(self, store: Any) -> dict[str, Callable[..., Any]]:
        """Return the replaced methods of a store, by name."""
        has_server = self._inner is not None
        found = replaced_methods(self, store, self._remote, has_server=has_server)
        if hasattr(store, "get_host_creds"):
            found["get_host_creds"] = self._host_credentials
        traces = DurableTraces(self._server, self._experiment_name)
        return {**found, **traces.methods(type(store))}

    def _host_credentials(self) -> Any:
        """Return the server's address and credentials; its known address alone while it does not respond.

        MLflow prints a run's address with it, and the clients of Databricks and Azure sign in for that.
        """
        server, inner = self._server, self._inner
        assert inner is not None  # noqa: S101 - a store without a server has no such attribute
        if not keeps_its_uri(server.target):
            return inner.get_host_creds()
        try:
            self._credentials = server.patience.attempt(inner.get_host_creds, proves=False)
        except Away:
            return self._credentials or _mlflow.host_credentials(host_of(server.target))
        return self._credentials

    # ----- experiments

    def get_experiment_by_name(self, experiment_name: str) -> Any:
        """Return the experiment of a name, or None."""
        server = self._server
        try:
            found = self._ask(lambda store: store.get_experiment_by_name(experiment_name))
        except Away:
            return self._known_experiment(experiment_name)
        if found is None:
            known = provisional_experiment(experiment_name)
            if known in server.experiments and server.real_experiment(known) is None:
                return server.experiments[known]
            self._missing[experiment_name] = time.monotonic()
        else:
            server.know_experiment(found)
        return found

    def get_experiment(self, experiment_id: Any) -> Any:
        """Return an experiment.

        Raises:
            MlflowException: There is none, or only the server knows it and does not respond.
        """
        known, server = str(experiment_id), self._server
        real = server.real_experiment(known)
        if real is None:
            return self._local_experiment(known)
        try:
            found = self._ask(lambda store: store.get_experiment(real))
        except Away as away:
            if local := self._recorded_experiment(known):
                return local
            self._refuse(away, f"the experiment {known}")
        server.know_experiment(found)
        return found

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: Any = None
    ) -> str:
        """Create an experiment and return its ID, a provisional one if the server does not respond.

        Raises:
            MlflowException: There is one of the name.
        """
        _mlflow.check_experiment_name(name)
        for tag in tags or ():
            _mlflow.check_experiment_tag(tag.key, tag.value)
        try:
            created = str(
                self._ask(
                    lambda store: store.create_experiment(name, artifact_location, tags or [])
                )
            )
        except Away:
            known = self._known_experiment(name)
            if known is not None:
                if self._was_missing(name):
                    return str(known.experiment_id)
                raise _mlflow.refusal(
                    f"Experiment(name={name}) already exists.", "RESOURCE_ALREADY_EXISTS"
                ) from None
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or not self._was_missing(name):
                raise
            # None if the server has gone meanwhile: the provisional one leads to it by its name.
            found = self.get_experiment_by_name(name)
            if found is not None:
                if found.lifecycle_stage != LifecycleStage.ACTIVE:
                    raise
                return str(found.experiment_id)
        else:
            # `mlflow.set_experiment` fetches it next, and the server may be away again by then.
            record = {"name": name, "artifact_location": artifact_location}
            self._server.know_experiment(_experiment(created, record))
            return created
        return self._create_provisional_experiment(name, artifact_location, tags)

    def _was_missing(self, name: str) -> bool:
        """Return whether the server had no experiment of a name a moment ago, so that another process was faster.

        `mlflow.set_experiment` would take the error for a success and leave the experiment inactive: its runs
        would begin in the default one.
        """
        return self._missing.get(name, float("-inf")) > time.monotonic() - _RACE_SECONDS

    def set_experiment_tag(self, experiment_id: Any, tag: Any) -> None:
        """Set a tag of an experiment."""
        _mlflow.check_experiment_tag(tag.key, tag.value)
        if self._recorded_experiment(str(experiment_id)) is None:
            self._unless_away(lambda: self.get_experiment(experiment_id))
        self._server.emit(
            str(experiment_id), "experiment_tagged", {"key": tag.key, "value": str(tag.value)}
        )

    def _create_provisional_experiment(
        self, name: str, artifact_location: str | None, tags: Any
    ) -> str:
        server, known = self._server, provisional_experiment(name)
        location = artifact_location or f"{SCHEME}:/{known}"
        now = time.time_ns() // 1_000_000
        experiment = Experiment(
            known, name, location, LifecycleStage.ACTIVE, list(tags or []), now, now
        )
        with server.lock:
            server.know_experiment(experiment)
            data = {
                "name": name,
                "artifact_location": artifact_location,
                "tags": entities.pairs(tags, entities.keep),
            }
            server.emit(known, "experiment_created", data)
        return known

    def _known_experiment(self, name: str) -> Any:
        """Return an experiment that this machine has seen, or None."""
        server = self._server
        for known, record in reversed(list(server.experiment_records.all().items())):
            if record.get("name") == name and not is_provisional_experiment(known):
                return server.experiments.get(known) or _experiment(known, record)
        known = provisional_experiment(name)
        return server.experiments.get(known) or (
            _experiment(known, record)
            if (record := server.experiment_records.get(known) or {})
            else None
        )

    def _recorded_experiment(self, known: str) -> Any:
        server = self._server
        if found := server.experiments.get(known):
            return found
        record = server.experiment_records.get(known)
        if record is None and known == _DEFAULT:
            record = {"name": "Default", "artifact_location": f"{SCHEME}:/{known}"}
        return None if record is None else _experiment(known, record)

    def _experiment_name(self, known: str) -> str | None:
        found = self._recorded_experiment(known)
        return None if found is None else str(found.name)

    def _local_experiment(self, known: str) -> Any:
        if found := self._recorded_experiment(known):
            return found
        raise _mlflow.refusal(f"No Experiment with id={known} exists", "RESOURCE_DOES_NOT_EXIST")

    # ----- runs

    def create_run(
        self, experiment_id: Any, user_id: str, start_time: int, tags: Any, run_name: str
    ) -> Any:
        """Create a run; it has a provisional ID if the server does not respond."""
        server = self._server
        tags = list(tags or ())
        named = {tag.key: tag.value for tag in tags}
        if run_name and named.get(_NAME, run_name) != run_name:
            raise _mlflow.refusal(
                "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different "
                f"values (run_name='{run_name}', mlflow.runName='{named[_NAME]}').",
                "INVALID_PARAMETER_VALUE",
            )
        name = run_name or named.get(_NAME) or _mlflow.random_name()
        experiment_id = str(experiment_id)
        key = uuid.uuid4().hex
        experiment = server.real_experiment(experiment_id)
        parent = named.get(_PARENT)
        real_parent = None if parent is None else server.real(parent)
        waits = "The experiment" if experiment is None else "A run"
        reason = server.patience.reason or f"{waits} that it belongs to waits for the server"
        unsure = False
        if experiment is not None and (parent is None or real_parent is not None):
            try:
                run = self._ask(
                    lambda store: store.create_run(
                        experiment,
                        user_id or "",
                        start_time,
                        [*self._real_tags(tags), _tag(SOURCE_TAG, key)],
                        name,
                    )
                )
            except Away as away:
                reason, unsure = str(away), away.unsure
            else:
                local = LocalRun.of(run, is_whole=True)
                local.tags.pop(SOURCE_TAG, None)
                self._announce(local, key)
                return local.entity()
        if server.is_offline and experiment_id == _DEFAULT:
            server.know_experiment(self._local_experiment(experiment_id))
        elif experiment_id not in server.experiments:
            self._check_experiment(experiment_id)
        local = LocalRun(
            key,
            experiment_id,
            user=user_id or "",
            name=name,
            start=start_time or time.time_ns() // 1_000_000,
            artifact_uri=f"{SCHEME}:/{experiment_id}/{key}/artifacts",
            tags={**named, _NAME: name},
            is_whole=True,
            is_provisional=True,
        )
        self._announce(local, key, unsure=unsure)
        server.tell_provisional(local, reason)
        return local.entity()

    def get_run(self, run_id: str) -> Any:
        """Return a run, from here if this process created it or wrote to it.

        Raises:
            MlflowException: There is none, or only the server knows it and does not respond.
        """
        with self._server.lock:
            if (local := self._server.runs.get(run_id)) and local.is_seen:
                return local.entity()
        return self._fetch_run(run_id).entity()

    def update_run_info(
        self, run_id: str, run_status: Any, end_time: int | None, run_name: str | None
    ) -> Any:
        """Set a run's status, end and name."""
        server, local = self._server, self._writable(run_id)
        data: dict[str, Any] = {}
        with server.lock:
            if run_status is not None:
                local.status = RunStatus.to_string(run_status)
                local.end = end_time
                data |= {"status": local.status, "end_time": end_time}
            if run_name:
                local.rename(run_name)
                data["run_name"] = run_name
            if data:
                server.emit(run_id, "run_updated", data)
            info = local.info()
        if data.get("status") in _ENDED and _PARENT not in local.tags and not is_delivering():
            self._wait_at_run_end()
        if data.get("status") in _ENDED and getattr(self._ending, "is_due", False):
            self._ending.is_due = False
            self._print_links(local)
        return info

    def _print_links(self, local: LocalRun) -> None:
        """Print MLflow's links to a run that has ended, once the server has an ID for it."""
        server, real = self._server, self._server.real(local.run_id)
        if self._inner is None or real is None or _mlflow.base_of(self._inner) is None:
            return
        shown = copy.copy(local)
        shown.run_id = real
        shown.experiment_id = server.real_experiment(local.experiment_id) or local.experiment_id
        _mlflow.print_links(self._inner, server.target, shown.entity())

    def delete_run(self, run_id: str) -> None:
        """Move a run to the trash."""
        self._change_stage(run_id, "deleted")

    def restore_run(self, run_id: str) -> None:
        """Take a run out of the trash."""
        self._change_stage(run_id, "active")

    def _change_stage(self, run_id: str, stage: str) -> None:
        local = self._writable(run_id, active=False)
        with self._server.lock:
            local.stage = stage
            self._server.emit(run_id, "stage_changed", {"stage": stage})

    def _wait_at_run_end(self) -> None:
        server = self._server
        if server.is_offline:
            return
        if not server.patience.is_silent:
            server.outbox.flush(RUN_END_SECONDS)
        server.tell_delivered()

    def _announce(self, local: LocalRun, key: str, *, unsure: bool = False) -> None:
        server = self._server
        experiment = self._recorded_experiment(local.experiment_id)
        data = {
            "experiment_id": local.experiment_id,
            "experiment_name": None if experiment is None else experiment.name,
            "run_name": local.name,
            "user": local.user,
            "status": local.status,
            "stage": local.stage,
            "start_time": local.start,
            "end_time": None,
            "artifact_uri": local.artifact_uri,
            "parent": local.tags.get(_PARENT),
            "tags": dict(local.tags),
            "resumed": False,
            "server_id": not local.is_provisional,
        }
        if unsure:
            data["attempted"] = True
        with server.lock:
            self._keep(local)
            record = {**data, "provisional": local.is_provisional, "key": key}
            server.run_records.add(local.run_id, record)
            server.emit(local.run_id, "run_started", data)

    def _keep(self, local: LocalRun) -> None:
        server = self._server
        with server.lock:
            server.runs[local.run_id] = local
            if len(server.runs) > _MAX_RUNS:
                oldest = next((k for k, run in server.runs.items() if run.status in _ENDED), None)
                if oldest is not None:
                    del server.runs[oldest]
        if local.artifact_uri:
            owner = DurableOwner(server, local.artifact_uri, local.run_id, None, local.is_whole)
            register_owner(owner)

    def _fetch_run(self, run_id: str) -> LocalRun:
        """Return a run that this process did not create, from the server or from what this machine noted.

        It is kept only once something is written to it; until then each read asks.
        """
        server = self._server
        record = server.run_records.get(run_id)
        real = server.real(run_id)
        if real is None and record is not None:
            local = _recorded(run_id, record)
            self._keep(local)
            return local
        try:
            self._catch_up()
            run = self._ask(lambda store: store.get_run(real or run_id))
        except Away as away:
            if record is None:
                self._refuse(away, f"the run {run_id}")
            local = _recorded(run_id, record)
        else:
            local = LocalRun.of(run, is_whole=False)
            local.tags.pop(SOURCE_TAG, None)
        owner = DurableOwner(server, local.artifact_uri, local.run_id, None, is_whole=False)
        register_owner(owner)
        return local

    def _writable(self, run_id: str, *, active: bool = True) -> LocalRun:
        """Return the local state of a run that is written to.

        Raises:
            MlflowException: The server does not know the run, or it is deleted.
        """
        server = self._server
        local = server.runs.get(run_id)
        if local is None:
            try:
                local = self._fetch_run(run_id)
            except MlflowException as error:
                if error.error_code != "TEMPORARILY_UNAVAILABLE":
                    raise
                # What it holds is not known, so the server decides later.
                local = LocalRun(run_id, _DEFAULT, is_seen=False)
            with server.lock:
                local = server.runs.setdefault(run_id, local)
        if active and local.stage != LifecycleStage.ACTIVE:
            raise _mlflow.refusal(
                f"The run {run_id} must be in the 'active' state. Current state is {local.stage}.",
                "INVALID_PARAMETER_VALUE",
            )
        return local

    def _check_experiment(self, experiment_id: str) -> None:
        """Raise MLflow's error if a provisional ID of an experiment was never issued here."""
        if is_provisional_experiment(experiment_id) or self._server.is_offline:
            self._local_experiment(experiment_id)

    # ----- what runs log

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

    def _row(self, metric: Any) -> MetricRow:
        """Return a metric as a row of an event.

        Raises:
            MlflowException: A server would refuse it.
        """
        key, value, timestamp, step = metric.key, metric.value, metric.timestamp, metric.step
        # What a training logs at each step: a name that was checked before, and numbers of plain types.
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
            if len(self._checked) < _MAX_RUNS:
                self._checked.add(key)
            row = [key, entities.number(value), int(timestamp), int(step or 0)]
        return [*row, more] if (more := entities.more_of_metric(metric)) else row

    def delete_tag(self, run_id: str, key: str) -> None:
        """Delete a tag.

        Raises:
            MlflowException: The run has no such tag.
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
        """Do nothing: what was logged is kept."""

    def end_async_logging(self) -> None:
        """Do nothing: what was logged is kept."""

    def shut_down_async_logging(self) -> None:
        """Note that a run is about to end; what was logged is kept."""
        self._ending.is_due = True

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
        """Return the history of a metric, from here if this process created the run."""
        with self._server.lock:
            local = self._server.runs.get(run_id)
            points = None if local is None else local.points(metric_key)
        if points is not None:
            return PagedList(points, None)
        remote = self._remote("get_metric_history")
        more = {"max_results": max_results, "page_token": page_token}
        return remote(run_id, metric_key, **{k: v for k, v in more.items() if v is not None})

    # ----- logged models

    def create_logged_model(
        self,
        experiment_id: Any,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: Any = None,
        params: Any = None,
        model_type: str | None = None,
    ) -> Any:
        """Create a logged model; it has a provisional ID if the server does not respond."""
        _mlflow.check_model_name(name)
        server, key = self._server, f"m-{uuid.uuid4().hex}"
        name = name or _mlflow.random_name()
        experiment = server.real_experiment(str(experiment_id))
        run_id = server.real(source_run_id) if source_run_id else None
        unsure = False
        if experiment is not None and (not source_run_id or run_id is not None):
            try:
                model = self._ask(
                    lambda store: store.create_logged_model(
                        experiment_id=experiment,
                        name=name,
                        source_run_id=run_id,
                        tags=[*(tags or []), _model_tag(SOURCE_TAG, key)],
                        params=params,
                        model_type=model_type,
                    )
                )
            except Away as away:
                unsure = away.unsure
            else:
                model.tags.pop(SOURCE_TAG, None)
                return self._announce_model(model, source_run_id, server_id=True)
        return self._announce_model(
            self._provisional_model(
                key, str(experiment_id), name, source_run_id, tags, params, model_type
            ),
            source_run_id,
            server_id=False,
            unsure=unsure,
        )

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> Any:
        """Return a logged model, from here if this process created it."""
        server = self._server
        if found := server.models.get(model_id):
            return found
        real = server.real(model_id)
        if real is None:
            self._refuse(None, f"the logged model {model_id}")
        more = {"allow_deleted": True} if allow_deleted else {}
        try:
            self._catch_up()
            model = self._ask(lambda store: store.get_logged_model(real, **more))
        except Away as away:
            self._refuse(away, f"the logged model {model_id}")
        self._own_model(model, is_whole=False)
        return model

    def search_logged_models(
        self, experiment_ids: Any, filter_string: str | None = None, **more: Any
    ) -> Any:
        """Search logged models; without the server among those that this process created."""
        try:
            return self._remote("search_logged_models")(experiment_ids, filter_string, **more)
        except MlflowException as error:
            name = _only_name(filter_string)
            if error.error_code != "TEMPORARILY_UNAVAILABLE" or name is None:
                raise
            wanted = {str(each) for each in experiment_ids}
            found = [
                model
                for model in self._server.models.values()
                if model.name == name and str(model.experiment_id) in wanted
            ]
            if not found:
                raise
            return PagedList(found, None)

    def finalize_logged_model(self, model_id: str, status: Any) -> Any:
        """Set the status of a logged model."""
        model = self.get_logged_model(model_id)
        with self._server.lock:
            changed = _changed_model(model, status=status)
            self._own_model(changed, is_whole=model_id in self._server.models)
            self._server.models[model_id] = changed
            self._emit_model(changed)
        return changed

    def log_logged_model_params(self, model_id: str, params: Any) -> None:
        """Log params of a logged model."""
        values = entities.pairs(params, entities.keep)
        self._change_model(model_id, "model_params_logged", {"params": values})
        if model := self._server.models.get(model_id):
            self._server.models[model_id] = _changed_model(model, params={**model.params, **values})

    def set_logged_model_tags(self, model_id: str, tags: Any) -> None:
        """Set tags of a logged model, except the one that the server writes when a version is created."""
        values = entities.pairs(tags, entities.keep)
        values.pop(_SERVER_WRITES_IT, None)
        if not values:
            return
        self._change_model(model_id, "model_tagged", {"tags": values})
        if model := self._server.models.get(model_id):
            self._server.models[model_id] = _changed_model(model, tags={**model.tags, **values})

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        """Delete a tag of a logged model."""
        self._change_model(model_id, "model_tag_deleted", {"key": key})
        if model := self._server.models.get(model_id):
            tags = {k: v for k, v in model.tags.items() if k != key}
            self._server.models[model_id] = _changed_model(model, tags=tags)

    def delete_logged_model(self, model_id: str) -> None:
        """Delete a logged model."""
        self._change_model(model_id, "model_deleted", {})
        self._server.models.pop(model_id, None)

    def _change_model(self, model_id: str, kind: str, data: Mapping[str, Any]) -> None:
        model = self._server.models.get(model_id)
        if model is None and self._server.model_records.get(model_id) is None:
            self._unless_away(lambda: self.get_logged_model(model_id))
        stream = (model.source_run_id if model is not None else None) or model_id
        self._server.emit(stream, kind, {"model_id": model_id, **data})

    def _provisional_model(
        self,
        key: str,
        experiment_id: str,
        name: str,
        run_id: str | None,
        tags: Any,
        params: Any,
        model_type: str | None,
    ) -> Any:
        from mlflow.entities import LoggedModel, LoggedModelStatus

        now = time.time_ns() // 1_000_000
        self._server.provisional_models.add(key)
        return LoggedModel(
            experiment_id,
            key,
            name,
            f"{SCHEME}:/{experiment_id}/models/{key}/artifacts",
            now,
            now,
            model_type=model_type,
            source_run_id=run_id,
            status=LoggedModelStatus.PENDING,
            tags=entities.pairs(tags, entities.keep),
            params=entities.pairs(params, entities.keep),
        )

    def _announce_model(
        self, model: Any, run_id: str | None, *, server_id: bool, unsure: bool = False
    ) -> Any:
        server = self._server
        if run_id and model.source_run_id != run_id:
            model = _changed_model(model, source_run_id=run_id)
        with server.lock:
            server.models[model.model_id] = model
            self._own_model(model, is_whole=True)
            server.model_records.add(
                model.model_id, {"name": model.name, "run": run_id, "provisional": not server_id}
            )
            self._emit_model(model, unsure=unsure)
        return model

    def _emit_model(self, model: Any, *, unsure: bool = False) -> None:
        server = self._server
        experiment = self._recorded_experiment(str(model.experiment_id))
        data = {
            **entities.logged_model(model, entities.keep),
            "server_id": model.model_id not in server.provisional_models,
            "experiment_name": None if experiment is None else experiment.name,
        }
        if unsure:
            data["attempted"] = True
        server.emit(model.source_run_id or model.model_id, "model_logged", data)

    def _own_model(self, model: Any, *, is_whole: bool) -> None:
        if model.artifact_location:
            run_id = model.source_run_id or None
            location = model.artifact_location
            register_owner(DurableOwner(self._server, location, run_id, model.model_id, is_whole))

    # ----- the server

    def _ask(self, call: Callable[[Any], Any]) -> Any:
        if self._asking is None:
            raise Away("There is no server: 'server' is 'offline'")
        return self._server.patience.attempt(lambda: call(self._asking))

    def _probe(self) -> object:
        return self._server.asking.search_experiments(max_results=1)

    def _catch_up(self) -> None:
        """Wait until the server has what this process wrote, if it responds.

        Raises:
            Away: It does not respond.
        """
        outbox = self._server.outbox
        if self._inner is None or outbox.is_delivered:
            return
        self._ask(lambda _: self._probe())
        if outbox.flush(FLUSH_SECONDS):
            logger.warning(
                "The MLflow server at %s does not have everything yet that was logged before this "
                "read: `mlflow-connections outbox status` shows what waits.",
                mask_uri(self._server.target),
            )

    def _remote(self, name: str) -> Callable[..., Any]:
        """Return a method that asks the server, with the server's IDs in place of provisional ones."""
        what = name.replace("_", " ")

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._inner is None:
                self._refuse(None, what)
            method = getattr(self._inner, name)
            if is_delivering():
                return method(*args, **kwargs)
            try:
                if name.startswith(_READS) or not name.startswith(("log_", "start_")):
                    self._catch_up()
                args = tuple(self._real(value) for value in args)
                kwargs = {key: self._real(value) for key, value in kwargs.items()}
                return self._server.patience.wait(lambda: method(*args, **kwargs), self._probe)
            except Away as away:
                self._refuse(away, what)

        return call

    def _unless_away(self, look: Callable[[], object]) -> None:
        """Look at something before it is written to; without the server, it decides later."""
        try:
            look()
        except MlflowException as error:
            if error.error_code != "TEMPORARILY_UNAVAILABLE":
                raise

    def _real(self, value: Any) -> Any:
        if isinstance(value, str):
            server = self._server
            if is_provisional_experiment(value):
                return server.real_experiment(value) or value
            return server.ids.get(value) or server.ids.replaced(value)
        if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
            return [self._real(each) for each in value]
        return value

    def _real_tags(self, tags: Iterable[Any]) -> list[Any]:
        return [_tag(tag.key, self._server.ids.replaced(tag.value)) for tag in tags]

    def _refuse(self, away: Away | None, what: str) -> NoReturn:
        refuse(self._server, away, what)


def refuse(server: DurableServer, away: Away | None, what: str) -> NoReturn:
    """Raise MLflow's error for a read that only a server could answer."""
    if server.is_offline:
        raise MlflowException(
            f"'server' is 'offline', so no server can answer for {what}: ship what waits, and ask the "
            "server that has it.",
            TEMPORARILY_UNAVAILABLE,
        )
    said = f" ({away})" if away else ""
    raise MlflowException(
        f"Only the MLflow server at {mask_uri(server.target)} can answer for {what}, and it does not "
        f"respond{said}. What is logged is kept; repeat this once the server is back.",
        TEMPORARILY_UNAVAILABLE,
    ) from None


def _experiment(known: str, record: Mapping[str, Any]) -> Any:
    location = record.get("artifact_location") or ""
    return Experiment(known, record["name"], location, LifecycleStage.ACTIVE, [])


def _recorded(run_id: str, record: Mapping[str, Any]) -> LocalRun:
    """Return what a process of this machine noted of a run when it created it."""
    return LocalRun(
        run_id,
        record["experiment_id"],
        user=record.get("user") or "",
        name=record.get("run_name"),
        start=record.get("start_time") or 0,
        artifact_uri=record.get("artifact_uri") or "",
        tags=record.get("tags"),
        is_provisional=bool(record.get("provisional")),
    )


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


def _changed_model(model: Any, **changes: Any) -> Any:
    from mlflow.entities import LoggedModel

    values = {
        "experiment_id": model.experiment_id,
        "model_id": model.model_id,
        "name": model.name,
        "artifact_location": model.artifact_location,
        "creation_timestamp": model.creation_timestamp,
        "last_updated_timestamp": time.time_ns() // 1_000_000,
        "model_type": model.model_type,
        "source_run_id": model.source_run_id,
        "status": model.status,
        "status_message": model.status_message,
        "tags": dict(model.tags),
        "params": dict(model.params),
        "metrics": model.metrics,
        **changes,
    }
    return LoggedModel(**values)


def _only_name(filter_string: str | None) -> str | None:
    """Return the name if a filter asks for one name and nothing else."""
    key, _, value = (filter_string or "").partition("=")
    value = value.strip()
    if key.strip() == "name" and len(value) > 2 and value[0] == value[-1] == "'":
        return value[1:-1]
    return None


def _tag(key: str, value: str) -> Any:
    from mlflow.entities import RunTag

    return RunTag(key, value)


def _model_tag(key: str, value: str) -> Any:
    from mlflow.entities import LoggedModelTag

    return LoggedModelTag(key, value)
