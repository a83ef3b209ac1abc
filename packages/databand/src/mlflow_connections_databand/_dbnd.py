"""dbnd: its settings, a context manager for scripts that use it, and the task that code runs in.

The settings come from cfg files, the environment and `--set-config`: `[core] databand_url`,
`[mlflow_tracking] databand_tracking` and `duplicate_tracking_to`.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from mlflow_connections import (
    Applied,
    Endpoint,
    MissingDependencyError,
    MissingOptionError,
    mlflow_state,
)
from mlflow_connections.secrets import masked

from ._connection import connection
from ._uri import PASSWORD_VARIABLE, USER_VARIABLE, is_databand, parse

SECTION = "mlflow_tracking"


def current_attempt() -> dict[str, str] | None:
    """Return the IDs of the attempt of the running dbnd task, or None outside of a task.

    This never imports dbnd.
    """
    current = sys.modules.get("dbnd._core.current")
    if current is None:
        return None
    task_run = current.try_get_current_task_run()
    if task_run is None:
        return None
    return {
        "run_uid": str(task_run.run.run_uid),
        "task_run_uid": str(task_run.task_run_uid),
        "task_run_attempt_uid": str(task_run.task_run_attempt_uid),
        "task_name": str(task_run.task.task_name),
    }


@contextmanager
def databand_tracking() -> Iterator[str]:
    """Copy runs to Databand within a `with` block, with dbnd's settings. Yields the tracking URI.

    For scripts that use `dbnd_tracking()`, which calls no plugin when it starts:

        with dbnd_tracking(job_name="train"), databand_tracking():
            mlflow.log_metric("loss", 0.1)

    Raises:
        MissingOptionError: dbnd's configuration has no `[core] databand_url`.
    """
    with apply() as endpoint:
        yield endpoint.tracking_uri


def apply() -> Applied:
    """Start the copying that dbnd's settings request.

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
    store = config.get(SECTION, "duplicate_tracking_to") or _current()
    options = {"databand_url": url, "duplicate_tracking_to": store}
    token = config.get("core", "databand_access_token")
    credentials = {"access_token": token} if token else {}
    login = {}
    if not token and config.get("core", "dbnd_user"):
        login = {
            USER_VARIABLE: config.get("core", "dbnd_user"),
            PASSWORD_VARIABLE: config.get("core", "dbnd_password") or "",
        }
    # A shell that names the experiment names the one of this process's runs, whichever store dbnd's
    # settings choose.
    named = {name: os.environ[name] for name in ("MLFLOW_EXPERIMENT_NAME",) if os.environ.get(name)}
    return Applied(
        Endpoint(
            connection.tracking_uri(credentials, options),
            None,
            {**named, **login, **connection.environment(credentials, options)},
            inner=Endpoint(mlflow_state.tracking_uri() or "") if store == _current() else None,
        )
    )


def _current() -> str:
    from mlflow.tracking import get_tracking_uri

    from mlflow_connections_events import inner_tracking_uri

    uri: str = get_tracking_uri()
    if not is_databand(uri):
        return uri
    return parse(uri).inner or inner_tracking_uri(uri)


def configuration() -> Any:
    """Read dbnd's configuration.

    Raises:
        MissingDependencyError: dbnd is not installed.
    """
    try:
        # Before its start dbnd has read neither files nor variables; afterwards this does nothing.
        import_module("dbnd._core.context.bootstrap").dbnd_bootstrap()
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{error.name} is not installed; run: pip install 'mlflow-connections-databand[dbnd]'."
        ) from masked(error)
    return import_module("dbnd").config
