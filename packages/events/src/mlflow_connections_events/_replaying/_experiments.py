"""Applying the events of experiments, and finding the experiment of any other entity."""

from collections.abc import Callable, Mapping
from typing import Any

from mlflow_connections_outbox import Event, Rejected

from ._outcome import CREATED_BEFORE, error_code, is_gone
from ._target import ReplayTarget


class ExperimentApplier:
    """Applies the events of experiments.

    Args:
        target: The server.
    """

    def __init__(self, target: ReplayTarget) -> None:
        self._target = target
        self._ids = target.ids
        self._own_ids = target.own_ids
        self._known: dict[str, str] = {}

    def handlers(self) -> Mapping[str, Callable[[Event], None]]:
        """Return the function for each kind of event."""
        return {"experiment_created": self._created, "experiment_tagged": self._tagged}

    def of(self, data: Mapping[str, Any]) -> str:
        """Return the destination's ID of the experiment of a run, a model or a trace.

        Raises:
            Rejected: The experiment is deleted there.
        """
        source = data["experiment_id"]
        name, created = data.get("experiment_name"), data.get("experiment_created")
        return self.id_of(source, name, created)

    def id_of(self, source: str, name: str | None, created: int | None = None) -> str:
        """Return the destination's ID of an experiment, which is created if no experiment has its name.

        Args:
            source: The source's ID.
            name: Its name, or None if the event does not contain it.
            created: The time of its creation, if the source's ID may be the destination's too.

        Raises:
            Rejected: The experiment is deleted there.
        """
        if self._own_ids and not name:
            return source
        if found := self._known.get(source):
            return found
        if created is not None and name and self._is_experiment(source, name, created):
            found = source
        else:
            found = self._find_or_create(name or f"experiment {source}", None, [])
        self._known[source] = found
        if self._own_ids and found != source:
            self._ids.put(f"experiment {source}", found)
        return found

    def known(self, source: str) -> str | None:
        """Return the destination's ID of an experiment, or None if it was not announced."""
        return self._ids.get(f"experiment {source}") or self._known.get(source)

    def all_ids(self) -> list[str]:
        """Fetch the IDs of all experiments that are not deleted."""
        found: list[str] = []
        token = None
        while True:
            page = self._target.tracking.search_experiments(max_results=1_000, page_token=token)
            found += [str(experiment.experiment_id) for experiment in page]
            if not (token := page.token):
                return found

    def _is_experiment(self, known: str, name: str, created: int) -> bool:
        """Return whether the server's experiment with an ID is the expected one, perhaps renamed.

        A server that was set up again, or restored from a backup, may use the ID for another one.

        Raises:
            Rejected: It is the expected one, but deleted.
        """
        try:
            experiment = self._target.tracking.get_experiment(known)
        except Exception as error:
            if not is_gone(error):
                raise
            return False
        if experiment.name != name and experiment.creation_time != created:
            return False
        _refuse_deleted(experiment)
        return True

    def _find_or_create(self, name: str, location: str | None, tags: list[Any]) -> str:
        experiment = self._target.tracking.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(self._target.tracking.create_experiment(name, location, tags))
            except Exception as error:
                # Another process was faster, or the response to an earlier attempt was lost.
                experiment = self._target.tracking.get_experiment_by_name(name)
                if error_code(error) not in CREATED_BEFORE or experiment is None:
                    raise
        _refuse_deleted(experiment)
        return str(experiment.experiment_id)

    def _created(self, event: Event) -> None:
        from mlflow.entities import ExperimentTag

        tags = [ExperimentTag(k, v) for k, v in event.data["tags"].items()]
        # The location belongs to the source's storage, which the destination may not reach.
        location = event.data["artifact_location"] if self._own_ids else None
        created = self._find_or_create(event.data["name"], location, tags)
        self._known[event.stream] = created
        self._ids.put(f"experiment {event.stream}", created)

    def _tagged(self, event: Event) -> None:
        from mlflow.entities import ExperimentTag

        target = self.known(event.stream)
        if target is None:
            if not self._own_ids:
                raise Rejected(f"The experiment {event.stream} was not announced.", [0])
            target = event.stream
        tag = ExperimentTag(event.data["key"], event.data["value"])
        self._target.tracking.set_experiment_tag(target, tag)


def _refuse_deleted(experiment: Any) -> None:
    if experiment.lifecycle_stage != "active":
        raise Rejected(
            f"The experiment {experiment.name!r} is deleted at the destination: restore it, then retry.",
            [0],
        )
