"""The sink: events are replayed on the copy's server, artifacts are read from the primary.

The shipper imports this module in its own process. Spools name `open_sink`, so its path is fixed.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from mlflow_connections.authentication import bound, has_lost_parent
from mlflow_connections_events.files import SourceFiles
from mlflow_connections_events.replay import ReplaySink
from mlflow_connections_outbox import Destination, Event, Unauthorized, Unavailable

from ._credentials import (
    COPY_VARIABLE,
    IDENTITY_VARIABLES,
    PRIMARY_VARIABLE,
    SERVERS_VARIABLE,
    MirroredServer,
    address,
    noted_names,
    primary_of,
    read_names,
    server_at,
    unpacked,
    variables_of,
)


def open_sink(destination: Destination, environ: Mapping[str, str], state: Path) -> ReplaySink:
    """Open the sink of a copy.

    Args:
        destination: Its URL is the copy's tracking URI, without credentials.
        environ: Holds both servers, if a process that logs has started this one.
        state: The folder for the map of IDs.

    Raises:
        Unauthorized: The copy's URI has credentials that this process does not know.
        Unavailable: The copy needs credentials, and this process has others in force.
    """
    names = read_names(environ.get(SERVERS_VARIABLE) or noted_names(state))
    only_delivers = _only_delivers()
    known = _given(environ, COPY_VARIABLE)
    copy = known or server_at(destination.url, names.copy)
    if address(copy) != destination.url:
        if known:
            raise Unauthorized(f"The environment variable {COPY_VARIABLE} names another server.")
        raise Unauthorized(
            f"The copy is at {destination.url}, and this process has the credentials of another workspace; "
            "the next process that logs delivers the events."
        )
    if "***" in copy.uri:
        raise Unauthorized(
            f"The credentials in the URI of the copy at {destination.url} are not known to this "
            "process; they are sent along by the next process that logs."
        )
    source = primary_of(destination.name)
    files = _PrimaryFiles(environ, source, names.primary)
    if only_delivers:
        # The credentials in the process that logs are the primary's.
        others = variables_of(copy.uri) if copy.environment else []
        for name in (*IDENTITY_VARIABLES, *others):
            os.environ.pop(name, None)
        # If the sink is opened again after an outage, MLflow is already imported and configured.
        os.environ.update(copy.environment)
        environ = {k: v for k, v in environ.items() if k not in others}
    elif copy.environment:
        raise Unavailable(
            "Delivery to the copy needs a process with its own credentials. The outbox could not "
            "start one, because it cannot write to the disk."
        )
    kept = {k: v for k, v in environ.items() if k not in IDENTITY_VARIABLES}
    environ = {**kept, **copy.environment}
    return ReplaySink(
        copy.uri, environ, state, files=files, only_delivers=only_delivers, source=source
    )


@cache
def _only_delivers() -> bool:
    """Return whether this process had not imported MLflow when it opened its first sink."""
    return "mlflow" not in sys.modules


def _given(environ: Mapping[str, str], variable: str) -> MirroredServer | None:
    """Return the server of a variable, or None if only `mlflow-connections run`, which has ended, could sign in to it."""
    server = unpacked(environ.get(variable))
    return server if server and not has_lost_parent(server.uri, server.environment) else None


class _PrimaryFiles:
    """Reads artifacts with the primary's credentials in force.

    Args:
        environ: Holds the primary, if a process that logs has started this one.
        place: The primary's address.
        name: The name by which a later process signs in to it, or None.
    """

    def __init__(self, environ: Mapping[str, str], place: str, name: str | None) -> None:
        known = _given(environ, PRIMARY_VARIABLE)
        is_known = known is not None and address(known) == place
        self._primary = known if known and is_known else server_at(place, name)
        problem = ""
        if "***" in self._primary.uri:
            problem = (
                f"The credentials in the URI of the primary at {place} are not known to this process, and "
                "artifacts are read from it; the next process that logs delivers them."
            )
        elif address(self._primary) != place:
            problem = (
                f"The primary is at {place}, and this process has the credentials of another workspace; "
                "the next process that logs delivers the artifacts."
            )
        self._problem = problem

    def fetch(self, event: Event, folder: Path) -> Iterable[tuple[str, Path]]:
        """Download the files of an event."""
        if problem := self._problem:
            raise Unauthorized(problem)
        found = []
        with _in_force(self._primary):
            files = SourceFiles(self._primary.uri).fetch(event, folder)
            for number, (path, file) in enumerate(files):
                # The next download may have the same name.
                kept = folder / str(number) / file.name
                kept.parent.mkdir()
                found.append((path, file.replace(kept)))
        return found


@contextmanager
def _in_force(server: MirroredServer) -> Iterator[None]:
    others = variables_of(server.uri) if server.environment else ()
    names = {*IDENTITY_VARIABLES, *server.environment, *others, "MLFLOW_TRACKING_URI"}
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ.update(server.environment)
    os.environ["MLFLOW_TRACKING_URI"] = server.uri
    try:
        with bound(server.uri):
            yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)
