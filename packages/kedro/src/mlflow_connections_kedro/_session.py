"""Apply the settings of a session to MLflow in this process.

MLflow's URIs and exported credentials belong to the process, and they outlive a session on purpose:
nodes in child processes read them, and so do the cells of a notebook. The next session restores the
previous state, except values that user code has changed since.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from mlflow_connections import (
    AmbiguousConnectionError,
    Applied,
    ConnectionsError,
    Endpoint,
    PluginLoadError,
    PluginTypeError,
    UnknownConnectionError,
    resolve,
)
from mlflow_connections.discovery import names_connection
from mlflow_connections.environment import credential_variables, is_credential_variable
from mlflow_connections.mlflow_state import (
    REGISTRY_VARIABLE,
    TRACKING_VARIABLE,
    SavedState,
    export_environment,
    registry_uri,
    set_uris,
    set_variable,
    tracking_uri,
)
from mlflow_connections.options import SourceNames
from mlflow_connections.secrets import get_logger, mask_uri

from ._config import ConfigFiles, entry_name, read_entry
from ._server import Server, Value

logger = get_logger(__name__)

_NAMES_NO_PLACE = (
    UnknownConnectionError,
    AmbiguousConnectionError,
    PluginLoadError,
    PluginTypeError,
)
# MLflow does not treat these words as paths (mlflow/utils/uri.py).
_NO_PATHS = frozenset({"databricks", "databricks-uc", "uc"})


class Resolved(NamedTuple):
    """The settings of a session, resolved.

    Attributes:
        tracking: The tracking URI, or None if neither mlflow.yml nor the environment has one.
        registry: The registry URI, or None if it is left to MLflow.
        server: The settings from which they were resolved.
        endpoint: The URIs with the environment and the identities that they need.
    """

    tracking: str | None
    registry: str | None
    server: Server
    endpoint: Endpoint

    def __repr__(self) -> str:
        """Hide secrets in URIs and in the environment."""
        return f"Resolved({self.endpoint!r})"


def resumed_run(environ: Mapping[str, str]) -> str | None:
    """Return the ID of the run that an orchestrator started for this process, or None.

    `mlflow run` and AzureML jobs set MLFLOW_RUN_ID together with the URI of that run's server. The
    next `mlflow.start_run` resumes the run, so it must use that server.
    """
    run, uri = environ.get("MLFLOW_RUN_ID"), environ.get(TRACKING_VARIABLE)
    return run if run and uri and not names_connection(uri) else None


def resolve_server(
    server: Server, loader: Any, files: ConfigFiles, project: Path, *, export_plain: bool
) -> Resolved:
    """Resolve the settings of a session, without changing this process.

    Args:
        server: The settings.
        loader: Kedro's config loader, for the credentials.
        files: Names files in messages.
        project: The project's folder, to which relative paths belong.
        export_plain: Whether credentials next to a plain URI are exported; kedro-mlflow does so
            itself.

    Raises:
        ConnectionsError: Resolving failed; the message names the file and the fix.
    """
    tracking, registry = _text(server.tracking), _text(server.registry)
    uses = bool(server.connections)
    variables: Mapping[str, str] = {}
    endpoint = Endpoint("")
    if uses or export_plain:
        entry = read_entry(server.credentials, loader, files)
        where = entry_name(server.credentials, files) if uses or entry else ""
        variables = credential_variables(entry, where)
        if uses:
            # A connection may read its values from these variables.
            with set_meanwhile(variables):
                endpoint = _resolve(server, entry, where, files)
            if server.tracking in server.connections:
                tracking = endpoint.tracking_uri
            if server.registry in server.connections:
                registry = endpoint.registry_uri
        elif unread := [str(key) for key in entry if not is_credential_variable(key)]:
            logger.warning(
                "No connection is named, so of %s only environment variables are exported; not "
                "read: %s.",
                where,
                ", ".join(unread),
            )
    endpoint = endpoint._replace(
        tracking_uri=anchored(tracking, project) or "",
        registry_uri=anchored(registry, project),
        environment={**variables, **endpoint.environment},
    )
    return Resolved(tracking, registry, server, endpoint)


@contextmanager
def set_meanwhile(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the duration of a block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            set_variable(name, value)


def _resolve(server: Server, entry: Mapping[str, Any], where: str, files: ConfigFiles) -> Endpoint:
    options = files.name("mlflow", "server", "connection")
    names = SourceNames(
        options=f"server.connection in {options}",
        credentials=where,
        remedy="move it into an entry of credentials.yml and name that entry under server.credentials",
    )
    first, *_ = server.connections
    registry = server.registry.text if server.registry in server.connections else None
    try:
        return resolve(first.text, entry, server.options, registry=registry, source_names=names)
    except _NAMES_NO_PLACE as error:
        places = " and ".join(value.place for value in server.connections)
        raise _placed(error, places) from error.__cause__


def _placed(error: ConnectionsError, places: str) -> ConnectionsError:
    return type(error)(f"{places}: {error}")


def _text(value: Value | None) -> str | None:
    return None if value is None else value.text


def anchored(uri: str | None, project: Path) -> str | None:
    """Return a relative path as the URI of a path in the project; URIs are returned unchanged.

    kedro-mlflow has the same rule. `sqlite:///relative.db` is a URI: SQLite resolves it against the
    working directory.
    """
    if uri is None or uri in _NO_PATHS:
        return uri
    path = PurePath(uri)
    if path.is_absolute():
        return path.as_uri()
    return uri if urlsplit(uri).scheme else (project / uri).as_uri()


class SessionBoundary:
    """The changes of the last session in this process, so that the next one can start clean."""

    def __init__(self) -> None:
        self._applied: Applied | None = None
        self._endpoint: Endpoint | None = None
        self._before: SavedState | None = None
        self._after: SavedState | None = None
        self._names: set[str] = set()

    @property
    def server(self) -> str | None:
        """The tracking URI that the last session activated, or None if it is no longer in force."""
        if self._before is None or self._after is None:
            return None
        set_by_session = self._after.variables.get(TRACKING_VARIABLE)
        if set_by_session is None or set_by_session != tracking_uri():
            return None
        return set_by_session

    @contextmanager
    def withdrawn(self) -> Iterator[None]:
        """Hide the variables that the last session exported, while the settings of the next one are read."""
        if self._before is None or self._after is None:
            yield
            return
        now = dict(os.environ)
        names = {TRACKING_VARIABLE, REGISTRY_VARIABLE, *self._names}
        hidden = [n for n in names if now.get(n) == self._after.variables.get(n)]
        for name in hidden:
            set_variable(name, self._before.variables.get(name))
        try:
            yield
        finally:
            for name in hidden:
                set_variable(name, now.get(name))

    def holds(self, endpoint: Endpoint) -> bool:
        """Return whether the last session activated the same server, and it is still in force."""
        held = self._endpoint
        return (
            held is not None
            and self.server == (held.tracking_uri or None)
            and (held.tracking_uri, held.registry_uri)
            == (endpoint.tracking_uri, endpoint.registry_uri)
        )

    def enter(self, endpoint: Endpoint) -> None:
        """Activate a server in place of the last session's.

        Raises:
            BoundaryError: A run is active on another server, or another thread of this process uses
                another server.
        """
        if self.holds(endpoint):
            self._renew(endpoint)
            return
        self.leave()
        self._before = SavedState.take()
        self._names = set(endpoint.environment)
        if endpoint.tracking_uri:
            if names_connection(os.environ.get(TRACKING_VARIABLE) or ""):
                # The resolved keyword, not another server's URI.
                del os.environ[TRACKING_VARIABLE]
            self._applied = Applied(endpoint)
        else:
            export_environment(endpoint.environment)
            set_uris(None, endpoint.registry_uri)
        self._endpoint = endpoint
        self.remember()

    def _renew(self, endpoint: Endpoint) -> None:
        """Replace the credentials of the server that stays in force, with its active runs."""
        held = self._endpoint
        if held is not None and list(held.binders) != list(endpoint.binders):
            for binder in reversed(held.binders):
                binder.unbind()
            for binder in endpoint.binders:
                binder.bind()
        for name in self._names - endpoint.environment.keys():
            if self._before is not None:
                set_variable(name, self._before.variables.get(name))
        os.environ.update(endpoint.environment)
        self._names |= set(endpoint.environment)
        self._endpoint = endpoint
        self.remember()

    def withdraw_credentials(self) -> None:
        """Restore the variables that the last session exported, and leave URIs and runs alone."""
        if self._before is not None and self._after is not None:
            for name in self._names:
                if os.environ.get(name) == self._after.variables.get(name):
                    set_variable(name, self._before.variables.get(name))

    def watch(self, endpoint: Endpoint, *, keep: bool) -> None:
        """Watch kedro-mlflow activate a server in place of the last session's.

        Args:
            endpoint: The server.
            keep: Whether a run is active on it, so that the server must stay in force.
        """
        if not (keep and self.holds(endpoint)):
            self.leave()
            self._before = SavedState.take()
            self._endpoint = endpoint

    def remember(self, names: Iterable[str] = ()) -> None:
        """Record the current state as the session's, with variables that other code exported."""
        if self._before is not None:
            self._names.update(names)
            self._after = SavedState.take()

    def leave(self) -> None:
        """Restore the state before the last session, except values that user code changed since."""
        before, after, now = self._before, self._after, SavedState.take()
        uris = tracking_uri(), registry_uri()
        if self._applied is not None:
            self._applied.restore()
        if before is not None and after is not None:
            changed = {
                name: now.variables.get(name)
                for name in {TRACKING_VARIABLE, REGISTRY_VARIABLE, *self._names}
                if now.variables.get(name) != after.variables.get(name)
            }
            before.restore(self._names, after if self._applied is None else None)
            if self._applied is not None:
                set_uris(
                    uris[0] if TRACKING_VARIABLE in changed else None,
                    uris[1] if REGISTRY_VARIABLE in changed else None,
                )
                for name, value in changed.items():
                    set_variable(name, value)
        self._applied = self._endpoint = self._before = self._after = None
        self._names = set()


def shown(uri: str | None) -> str:
    """Return a URI for messages, with secrets masked."""
    return mask_uri(uri) if uri else "MLflow's default"


def may_be(value: Value, uri: str) -> bool:
    """Return whether a connection may have made a URI: its scheme has the keyword's name."""
    return uri == value.text or urlsplit(uri).scheme.partition("+")[0] == value.text
