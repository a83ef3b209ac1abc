"""Duplicating with dbnd's own settings: a context manager for scripts, and what its hooks share.

The settings come from cfg files, the environment and `--set-config`: `[core] databand_url`,
`[mlflow_tracking] databand_tracking` and `duplicate_tracking_to`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from mlflow_connections import (
    Applied,
    Endpoint,
    MissingDependencyError,
    MissingOptionError,
)

from ._connection import connection
from ._outboxes import PASSWORD_VARIABLE, USER_VARIABLE

SECTION = "mlflow_tracking"


@contextmanager
def databand_tracking() -> Iterator[str]:
    """Duplicate within a `with` block, with dbnd's settings; give the tracking URI.

    For scripts that use `dbnd_tracking()`, which tells no plugin of its start:

        with dbnd_tracking(job_name="train"), databand_tracking():
            mlflow.log_metric("loss", 0.1)

    Raises:
        MissingOptionError: dbnd's configuration has no `[core] databand_url`.
    """
    with apply() as endpoint:
        yield endpoint.tracking_uri


def apply() -> Applied:
    """Put the duplication in force that dbnd's settings ask for.

    Raises:
        MissingOptionError: dbnd's configuration has no `[core] databand_url`.
    """
    config = configuration()
    url = config.get("core", "databand_url")
    if not url:
        raise MissingOptionError(
            "'databand_url' is neither in the section [core] of dbnd's configuration nor in the "
            "environment variable DBND__CORE__DATABAND_URL."
        )
    options = {
        "databand_url": url,
        "duplicate_tracking_to": config.get(SECTION, "duplicate_tracking_to") or _current(),
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


def configuration() -> Any:
    """Give dbnd's configuration, read.

    Raises:
        MissingDependencyError: dbnd is not installed.
    """
    try:
        # Before its start dbnd has read neither files nor variables; after it, this is nothing.
        import_module("dbnd._core.context.bootstrap").dbnd_bootstrap()
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{error.name} is not installed; run: pip install 'mlflow-connections-databand[dbnd]'."
        ) from error
    return import_module("dbnd").config
