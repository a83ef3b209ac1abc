"""dbnd's way in: the plugin that `dbnd run` loads, and a context manager for scripts.

Only dbnd imports this module. Its settings are dbnd's own, from cfg files, the environment and
`--set-config`: `[core] databand_url`, `[mlflow_tracking] databand_tracking` and
`duplicate_tracking_to`.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from mlflow_connections import Applied, ConnectionsError, Endpoint, MissingOptionError

from ._connection import connection
from ._outboxes import PASSWORD_VARIABLE, USER_VARIABLE

logger = logging.getLogger(__name__)

_SECTION = "mlflow_tracking"

# Contexts nest, and dbnd leaves them in order; one that duplicates nothing stands here too.
_entered: list[tuple[Any, Applied | None]] = []


def _hook(function: Callable[[Any], None]) -> Callable[[Any], None]:
    # dbnd must be imported before dbnd_run.plugin, which otherwise imports itself in a circle.
    import_module("dbnd")
    marked: Callable[[Any], None] = import_module("dbnd_run.plugin.dbnd_plugins").hookimpl(function)
    return marked


@_hook
def dbnd_on_pre_init_context(ctx: Any) -> None:
    """Duplicate from here on, if `databand_tracking` says so."""
    applied = None
    if _config().getboolean(_SECTION, "databand_tracking"):
        try:
            applied = _apply()
        except ConnectionsError as error:
            # The copy is the second thing; the user's pipeline is the first.
            logger.warning("MLflow runs are not copied to Databand: %s", error)
    _entered.append((ctx, applied))


@_hook
def dbnd_on_exit_context(ctx: Any) -> None:
    """Put MLflow's tracking URI back as it was, also to unset."""
    while any(entered is ctx for entered, _ in _entered):
        entered, applied = _entered.pop()
        if applied is not None:
            applied.restore()
        if entered is ctx:
            break


@contextmanager
def databand_tracking() -> Iterator[str]:
    """Duplicate within a `with` block, with dbnd's settings; give the tracking URI.

    For scripts that use `dbnd_tracking()`, which tells no plugin of its start:

        with dbnd_tracking(job_name="train"), databand_tracking():
            mlflow.log_metric("loss", 0.1)

    Raises:
        MissingOptionError: dbnd's configuration has no `[core] databand_url`.
    """
    with _apply() as endpoint:
        yield endpoint.tracking_uri


def _apply() -> Applied:
    config = _config()
    url = config.get("core", "databand_url")
    if not url:
        raise MissingOptionError(
            "'databand_url' is neither in the section [core] of dbnd's configuration nor in the "
            "environment variable DBND__CORE__DATABAND_URL."
        )
    options = {
        "databand_url": url,
        "duplicate_tracking_to": config.get(_SECTION, "duplicate_tracking_to") or _current(),
    }
    token = config.get("core", "databand_access_token")
    credentials = {"access_token": token} if token else {}
    login = {}
    if not token and config.get("core", "dbnd_user"):
        login = {
            USER_VARIABLE: config.get("core", "dbnd_user"),
            PASSWORD_VARIABLE: config.get("core", "dbnd_password") or "",
        }
    return Applied(
        Endpoint(
            connection.tracking_uri(credentials, options),
            None,
            {**login, **connection.environment(credentials, options)},
        )
    )


def _current() -> str:
    from mlflow.tracking import get_tracking_uri

    from ._store import inner_tracking_uri

    return inner_tracking_uri(get_tracking_uri())


def _config() -> Any:
    # Before its start dbnd has read neither its files nor its variables; after it, this is nothing.
    import_module("dbnd._core.context.bootstrap").dbnd_bootstrap()
    return import_module("dbnd").config
