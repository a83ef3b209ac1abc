"""Runs: they begin without the server if it does not respond, and are read from memory."""

import copy
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from mlflow.entities import LifecycleStage, RunStatus
from mlflow.exceptions import MlflowException

from mlflow_connections_events.ids import SOURCE_TAG

from . import _mlflow
from ._artifacts import DurableOwner, register_owner
from ._delivering import is_delivering
from ._experiment_ids import DEFAULT_EXPERIMENT
from ._experiments import DurableExperiments
from ._inner_store import InnerStore, refuse
from ._local import LocalRun
from ._patience import Away
from ._server import RUN_END_SECONDS, DurableServer
from ._uri import SCHEME

_ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})
_PARENT = "mlflow.parentRunId"
_NAME = "mlflow.runName"
_MAX_RUNS = 10_000


class DurableRuns:
    """The methods of a tracking store that concern runs themselves.

    Args:
        server: The state of the server in this process.
        inner: The server's own store.
        experiments: The experiments of runs.
    """

    def __init__(
        self, server: DurableServer, inner: InnerStore, experiments: DurableExperiments
    ) -> None:
        self._server = server
        self._inner = inner
        self._experiments = experiments
        self._ending = threading.local()

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
                run = self._inner.ask(
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
        self._experiments.begin_run(experiment_id)
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
        """Return a run, from memory if this process created it or wrote to it.

        Raises:
            MlflowException: It does not exist, or only the server knows it and does not respond.
        """
        with self._server.lock:
            if (local := self._server.runs.get(run_id)) and local.is_seen:
                run = local.entity()
                if local.is_provisional and getattr(self._ending, "is_due", False):
                    # MLflow would print links with the ID that it knows: they are printed with the server's.
                    self._ending.hides = _mlflow.hide_links(run)
                return run
        return self._fetch_run(run_id).entity()

    def update_run_info(
        self, run_id: str, run_status: Any, end_time: int | None, run_name: str | None
    ) -> Any:
        """Set a run's status, end and name."""
        server, local = self._server, self.writable(run_id)
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
            hides = getattr(self._ending, "hides", False)
            self._ending.is_due = self._ending.hides = False
            self._print_links(local, are_hidden=hides)
        return info

    def shut_down_async_logging(self) -> None:
        """Note that a run is about to end; logged data is kept."""
        self._ending.is_due = True

    def delete_run(self, run_id: str) -> None:
        """Move a run to the trash."""
        self._change_stage(run_id, "deleted")

    def restore_run(self, run_id: str) -> None:
        """Take a run out of the trash."""
        self._change_stage(run_id, "active")

    # ----- for the other modules

    def writable(self, run_id: str, *, active: bool = True) -> LocalRun:
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
                # Its state is not known, so the server decides on delivery.
                local = LocalRun(run_id, DEFAULT_EXPERIMENT, is_seen=False)
            with server.lock:
                local = server.runs.setdefault(run_id, local)
        if active and local.stage != LifecycleStage.ACTIVE:
            raise _mlflow.refusal(
                f"The run {run_id} must be in the 'active' state. Current state is {local.stage}.",
                "INVALID_PARAMETER_VALUE",
            )
        return local

    # ----- the runs of this process

    def _change_stage(self, run_id: str, stage: str) -> None:
        local = self.writable(run_id, active=False)
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
        data = {
            "experiment_id": local.experiment_id,
            "experiment_name": self._experiments.name_of(local.experiment_id),
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
        """Return a run that this process did not create, from the server or from this machine's records.

        It is kept only once something is written to it; until then each read fetches it.
        """
        server = self._server
        record = server.run_records.get(run_id)
        real = server.real(run_id)
        if real is None and record is not None:
            local = _recorded(run_id, record)
            self._keep(local)
            return local
        try:
            self._inner.catch_up()
            run = self._inner.ask(lambda store: store.get_run(real or run_id))
        except Away as away:
            if record is None:
                refuse(server, away, f"the run {run_id}")
            local = _recorded(run_id, record)
        else:
            local = LocalRun.of(run, is_whole=False)
            local.tags.pop(SOURCE_TAG, None)
        owner = DurableOwner(server, local.artifact_uri, local.run_id, None, is_whole=False)
        register_owner(owner)
        return local

    def _print_links(self, local: LocalRun, *, are_hidden: bool) -> None:
        """Print MLflow's links to a run that has ended, once the server has an ID for it.

        Args:
            local: The run.
            are_hidden: Whether MLflow would have printed them, and was kept from it.
        """
        server, store = self._server, self._inner.store
        real = server.real(local.run_id)
        if store is None or real is None or (_mlflow.base_of(store) is None and not are_hidden):
            return
        shown = copy.copy(local)
        shown.run_id = real
        shown.experiment_id = server.real_experiment(local.experiment_id) or local.experiment_id
        _mlflow.print_links(store, self._inner.host_credentials, server.target, shown.entity())

    def _real_tags(self, tags: Iterable[Any]) -> list[Any]:
        return [_tag(tag.key, self._server.ids.replaced(tag.value)) for tag in tags]


def _recorded(run_id: str, record: Mapping[str, Any]) -> LocalRun:
    """Return the record that a process on this machine wrote when it created a run."""
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


def _tag(key: str, value: str) -> Any:
    from mlflow.entities import RunTag

    return RunTag(key, value)
