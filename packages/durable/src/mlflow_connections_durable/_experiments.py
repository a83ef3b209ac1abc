"""Experiments: read from the server if it responds, otherwise from this machine's records."""

import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException

from mlflow_connections_events import entities

from . import _mlflow
from ._experiment_ids import DEFAULT_EXPERIMENT, is_provisional_experiment, provisional_experiment
from ._inner_store import InnerStore, refuse, unless_away
from ._patience import Away
from ._server import DurableServer
from ._uri import SCHEME

_RACE_SECONDS = 10
"""The longest time between the two calls of one `mlflow.set_experiment`."""


class DurableExperiments:
    """The methods of a tracking store that concern experiments.

    Args:
        server: The state of the server in this process.
        inner: The server's own store.
    """

    def __init__(self, server: DurableServer, inner: InnerStore) -> None:
        self._server = server
        self._inner = inner
        self._missing: dict[str, float] = {}

    def get_experiment_by_name(self, experiment_name: str) -> Any:
        """Return the experiment of a name, or None."""
        server = self._server
        try:
            found = self._inner.ask(lambda store: store.get_experiment_by_name(experiment_name))
        except Away:
            found = self._known_by_name(experiment_name)
            if found is None:
                self._missing[experiment_name] = time.monotonic()
            return found
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
            MlflowException: It does not exist, or only the server knows it and does not respond.
        """
        known, server = str(experiment_id), self._server
        real = server.real_experiment(known)
        if real is None:
            return self._require(known)
        try:
            found = self._inner.ask(lambda store: store.get_experiment(real))
        except Away as away:
            if local := self.known(known):
                return local
            refuse(server, away, f"the experiment {known}")
        server.know_experiment(found)
        return found

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: Any = None
    ) -> str:
        """Create an experiment and return its ID, a provisional one if the server does not respond.

        Raises:
            MlflowException: An experiment has the name.
        """
        _mlflow.check_experiment_name(name)
        for tag in tags or ():
            _mlflow.check_experiment_tag(tag.key, tag.value)
        try:
            created = str(
                self._inner.ask(
                    lambda store: store.create_experiment(name, artifact_location, tags or [])
                )
            )
        except Away:
            known = self._known_by_name(name)
            if known is not None:
                if self._was_missing(name):
                    return str(known.experiment_id)
                raise _mlflow.refusal(
                    f"Experiment(name={name}) already exists.", "RESOURCE_ALREADY_EXISTS"
                ) from None
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or not self._was_missing(name):
                raise
            # None if the server has stopped responding: the provisional ID leads to it by its name.
            found = self.get_experiment_by_name(name)
            if found is not None:
                if found.lifecycle_stage != LifecycleStage.ACTIVE:
                    raise _mlflow.refusal(
                        f"Cannot use the deleted experiment '{name}'. Restore it, or delete it "
                        "permanently to create a new one.",
                        "INVALID_PARAMETER_VALUE",
                    ) from None
                return str(found.experiment_id)
        else:
            # `mlflow.set_experiment` fetches it next, and the server may be unavailable again by
            # then.
            record = {"name": name, "artifact_location": artifact_location}
            self._server.know_experiment(_experiment(created, record))
            return created
        return self._create_provisional_experiment(name, artifact_location, tags)

    def set_experiment_tag(self, experiment_id: Any, tag: Any) -> None:
        """Set a tag of an experiment."""
        _mlflow.check_experiment_tag(tag.key, tag.value)
        if self.known(str(experiment_id)) is None:
            unless_away(lambda: self.get_experiment(experiment_id))
        self._server.emit(
            str(experiment_id), "experiment_tagged", {"key": tag.key, "value": str(tag.value)}
        )

    # ----- for the other modules

    def known(self, experiment_id: str) -> Any:
        """Return an experiment that this machine has used, or None."""
        server = self._server
        if found := server.experiments.get(experiment_id):
            return found
        record = server.experiment_records.get(experiment_id)
        if record is None and experiment_id == DEFAULT_EXPERIMENT:
            record = {"name": "Default", "artifact_location": f"{SCHEME}:/{experiment_id}"}
        return None if record is None else _experiment(experiment_id, record)

    def name_of(self, experiment_id: str) -> str | None:
        """Return the name of an experiment that this machine has used, or None."""
        found = self.known(experiment_id)
        return None if found is None else str(found.name)

    def begin_run(self, experiment_id: str) -> None:
        """Check that a run may begin in an experiment while no server responds.

        Raises:
            MlflowException: Its provisional ID was never issued on this machine, or there is no
                server and no such experiment.
        """
        server = self._server
        if server.is_offline and experiment_id == DEFAULT_EXPERIMENT:
            server.know_experiment(self._require(experiment_id))
        elif experiment_id not in server.experiments and (
            server.is_offline or is_provisional_experiment(experiment_id)
        ):
            self._require(experiment_id)

    # ----- the records of this machine

    def _require(self, experiment_id: str) -> Any:
        if found := self.known(experiment_id):
            return found
        raise _mlflow.refusal(
            f"No Experiment with id={experiment_id} exists", "RESOURCE_DOES_NOT_EXIST"
        )

    def _known_by_name(self, name: str) -> Any:
        """Return an experiment that this machine has used, or None."""
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

    def _was_missing(self, name: str) -> bool:
        """Return whether there was no experiment of a name a moment ago, so that another process was faster.

        The server may not have responded then, and respond now. `mlflow.set_experiment` would take the error
        that there is one for a success and leave the experiment inactive: its runs would begin in the default one.
        """
        return self._missing.get(name, float("-inf")) > time.monotonic() - _RACE_SECONDS

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


def _experiment(known: str, record: Mapping[str, Any]) -> Any:
    location = record.get("artifact_location") or ""
    return Experiment(known, record["name"], location, LifecycleStage.ACTIVE, [])
