"""The server that events are applied to, and the known facts about it."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mlflow_connections_events.ids import IdMap
from mlflow_connections_outbox import Event, Rejected

ATTEMPT_SECONDS = 5.0
"""Seconds after which a server that responds has also completed earlier requests."""


class ReplayTarget:
    """The stores of one server, and its IDs for the entities in events.

    Args:
        tracking: The server's tracking store.
        registry: Returns the server's model registry store of a URI, or its usual one for None.
        client: An `MlflowClient` of the server, for artifacts.
        ids: The map of IDs.
        own_ids: Whether the IDs of runs that are not provisional (`server_id`) are the server's
            own, as for a write-behind store. Otherwise every run is created.
        announced: Returns the data of the `run_started` event of a run, or None if it is no longer
            known.
        source: The address of the server that the events come from; empty if it does not matter.
    """

    def __init__(
        self,
        tracking: Any,
        registry: Callable[[str | None], Any],
        client: Any,
        ids: IdMap,
        *,
        own_ids: bool,
        announced: Callable[[str], Mapping[str, Any] | None],
        source: str = "",
    ) -> None:
        self.tracking = tracking
        self.registry = registry
        self.client = client
        self.ids = ids
        self.own_ids = own_ids
        self.announced = announced
        self.source = source
        self._absent: set[str] = set()

    def know(
        self, source: str, target: str, source_uri: str | None, target_uri: str | None
    ) -> None:
        """Remember the server's ID for an ID in events, and its root of artifacts for the source's."""
        # The ID is last: a reader that finds it may rely on the rest.
        if source_uri and target_uri:
            self.ids.put(source_uri.rstrip("/"), target_uri.rstrip("/"))
        self.ids.put(source, target)

    def known(self, source: str) -> str | None:
        """Return the server's ID for an ID in events: the mapped one, or the same if it is the server's own."""
        return self.ids.get(source) or (source if self.own_ids else None)

    def model(self, source: str) -> str:
        """Return the server's ID of a logged model.

        Raises:
            Rejected: It was not announced to the server.
        """
        if known := self.known(source):
            return known
        raise Rejected(f"The logged model {source} was not announced to the destination.", [0])

    def expect_absent(self, sources: Iterable[str]) -> None:
        """Record that the server has nothing yet for these IDs of runs, models, versions and traces."""
        self._absent.update(sources)

    def is_absent(self, source: str) -> bool:
        """Return, once, whether the server has nothing for an ID: the response to an attempt may be lost."""
        try:
            self._absent.remove(source)
        except KeyError:
            return False
        return True

    def found(self, event: Event, source: str, find: Callable[[], Any]) -> Any:
        """Search for the entity that an event creates, a second time if another process attempted to create it.

        That request may still be in the queue of a server that responds to the first search.
        """
        if self.is_absent(source):
            return None
        found = find()
        if found is None and event.data.get("attempted"):
            time.sleep(ATTEMPT_SECONDS)
            found = find()
        return found
