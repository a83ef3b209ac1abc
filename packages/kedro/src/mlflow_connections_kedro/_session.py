"""A session's settings resolved: from mlflow.yml, credentials and environment to an endpoint."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from mlflow_connections import (
    AmbiguousConnectionError,
    ConnectionsError,
    Endpoint,
    PluginLoadError,
    PluginTypeError,
    UnknownConnectionError,
    resolve,
)
from mlflow_connections.discovery import names_connection
from mlflow_connections.options import SourceNames

from ._credentials import is_variable, place, read_entry, variables
from ._files import ConfigFiles
from ._leftovers import Leftovers
from ._server import Server, Value

logger = logging.getLogger(__name__)

_SAYS_NO_PLACE = (
    UnknownConnectionError,
    AmbiguousConnectionError,
    PluginLoadError,
    PluginTypeError,
)
# Words that are no path to MLflow (mlflow/utils/uri.py).
_NO_PATHS = frozenset({"databricks", "databricks-uc", "uc"})


class Connected(NamedTuple):
    """Where a session tracks.

    Attributes:
        tracking: The tracking URI, None where nobody has said any.
        registry: The registry URI, None where it is left to MLflow.
        server: The settings that they come from.
    """

    tracking: str | None
    registry: str | None
    server: Server


def active_run() -> str | None:
    """Give the id of the run that is active in this thread, without importing MLflow for it."""
    fluent = sys.modules.get("mlflow.tracking.fluent")
    ask = getattr(fluent, "active_run", None)
    run = ask() if ask else None
    return None if run is None else str(run.info.run_id)


def orchestrated_run(environ: Mapping[str, str]) -> str | None:
    """Give the id of the run that an orchestrator has started for this process.

    `mlflow run` and AzureML jobs set `MLFLOW_RUN_ID` with the URI where that run is. MLflow's next
    `start_run` resumes it, so it must be looked for there.
    """
    run, uri = environ.get("MLFLOW_RUN_ID"), environ.get("MLFLOW_TRACKING_URI")
    return run if run and uri and not names_connection(uri) else None


def connect(
    server: Server, loader: Any, files: ConfigFiles, leftovers: Leftovers, *, export_plain: bool
) -> Connected:
    """Resolve the settings and export what their URIs need. The URIs themselves are not set.

    Args:
        server: The settings.
        loader: Kedro's config loader, for the credentials.
        files: To name files in messages.
        leftovers: Exports, and remembers what.
        export_plain: Whether credentials are exported for a plain URI too; kedro-mlflow does that
            itself.

    Raises:
        ConnectionsError: The message names the file and the cure.
    """
    tracking, registry = _text(server.tracking), _text(server.registry)
    uses = bool(server.connections)
    if not uses and not export_plain:
        return Connected(tracking, registry, server)
    entry = read_entry(server.credentials, loader, files)
    where = place(server.credentials, files) if uses or entry else ""
    # Before resolving: a connection may read its values from these very variables.
    leftovers.export(variables(entry, where))
    if uses:
        endpoint = _resolve(server, entry, where, files)
        leftovers.export(endpoint.environment)
        if server.tracking in server.connections:
            tracking = endpoint.tracking_uri
        if server.registry in server.connections:
            registry = endpoint.registry_uri
    elif unread := [str(key) for key in entry if not is_variable(key)]:
        logger.warning(
            "No connection is named, so of %s only environment variables are exported; not read: %s.",
            where,
            ", ".join(unread),
        )
    return Connected(tracking, registry, server)


def _resolve(server: Server, entry: Mapping[str, Any], where: str, files: ConfigFiles) -> Endpoint:
    options = files.name("mlflow", "server", "connection")
    places = SourceNames(
        options=f"server.connection in {options}",
        credentials=where,
        remedy="move it into an entry of credentials.yml and name that entry under server.credentials",
    )
    first, *_ = server.connections
    registry = server.registry.text if server.registry in server.connections else None
    try:
        return resolve(first.text, entry, server.options, registry=registry, source_names=places)
    except _SAYS_NO_PLACE as error:
        said = " and ".join(value.place for value in server.connections)
        raise _placed(error, said) from error.__cause__


def _placed(error: ConnectionsError, said: str) -> ConnectionsError:
    return type(error)(f"{said}: {error}")


def _text(value: Value | None) -> str | None:
    return None if value is None else value.text


def anchored(uri: str | None, project: Path) -> str | None:
    """Make a relative path one of the project, as kedro-mlflow does; URIs stay as they are.

    So does `sqlite:///relative.db`, which is a URI: SQLite takes it relative to the working folder.
    """
    if uri is None or uri in _NO_PATHS:
        return uri
    path = PurePath(uri)
    if path.is_absolute():
        return path.as_uri()
    return uri if urlsplit(uri).scheme else (project / uri).as_uri()
