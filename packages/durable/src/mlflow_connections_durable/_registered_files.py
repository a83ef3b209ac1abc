"""The files of registered versions where a registry keeps copies of its own, as Unity Catalog does.

A version that waits for its server has them where its model was logged; for others the registry is asked with
patience, since its client signs in for minutes to a workspace that is down.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

from mlflow_connections_events import keeps_its_uri, proxy
from mlflow_connections_events.files import repository_of

from ._inner_store import refuse
from ._patience import Away
from ._server import DurableServer, server_in_force

MODELS = "models"
"""The scheme of registered models."""
_LOGGED = re.compile(r"models:/+m-[0-9a-f]{32}(/|$)")
"""The URI of a logged model, whose files are its own and in no registry."""
_READS = ("download_artifacts", "list_artifacts", "_download_file")


def registered_files(uri: str, make: Callable[[], Any]) -> Any:
    """Return the repository of a registered model.

    Args:
        uri: Its URI, `models:/…`; that of a logged model gets MLflow's own repository.
        make: Builds MLflow's own repository.
    """
    from mlflow.tracking import get_tracking_uri

    tracking = get_tracking_uri()
    server = server_in_force(tracking) if keeps_its_uri(tracking) else None
    if server is None or _LOGGED.match(uri):
        return make()
    if source := _source_of_waiting(server, uri):
        return repository_of(source, tracking)
    inner = make()
    reads = {name: _patient(server, uri, getattr(inner, name)) for name in _READS}
    return proxy(inner, reads)


def _source_of_waiting(server: DurableServer, uri: str) -> str | None:
    """Return where the files of a version are that waits for the server, or None for any other."""
    place = uri.partition(":")[2].strip("/")
    name, at, alias = place.partition("@")
    number = server.aliases.get((name, alias), "") if at else ""
    if not at:
        name, _, number = place.partition("/")
    version = server.versions.get((name, number.partition("/")[0]))
    if version is None or server.ids.get(f"{name}/{version.version}"):
        return None
    return str(version.source) + number[len(str(version.version)) :]


def _patient(server: DurableServer, uri: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return server.patience.wait(lambda: method(*args, **kwargs), server.probe)
        except Away as away:
            refuse(server, away, f"the files of {uri}")

    return call
