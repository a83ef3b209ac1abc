"""The plugin that `dbnd run` loads. Nothing else imports this module."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from mlflow_connections import Applied, ConnectionsError
from mlflow_connections.secrets import get_logger

from ._dbnd import SECTION, apply, configuration

logger = get_logger(__name__)

# Contexts nest, and dbnd leaves them in order. A context that copies nothing is listed too.
_entered: list[tuple[Any, Applied | None]] = []


def _hook(function: Callable[[Any], None]) -> Callable[[Any], None]:
    # dbnd must be imported before dbnd_run.plugin, or their imports form a circle.
    import_module("dbnd")
    marked: Callable[[Any], None] = import_module("dbnd_run.plugin.dbnd_plugins").hookimpl(function)
    return marked


@_hook
def dbnd_on_pre_init_context(ctx: Any) -> None:
    """Start copying runs if `databand_tracking` is true."""
    applied = None
    if configuration().getboolean(SECTION, "databand_tracking"):
        try:
            applied = apply()
        except ConnectionsError as error:
            # The user's pipeline is more important than the copy.
            logger.warning("MLflow runs are not copied to Databand: %s", error)
    _entered.append((ctx, applied))


@_hook
def dbnd_on_exit_context(ctx: Any) -> None:
    """Restore MLflow's tracking URI, or unset it."""
    while any(entered is ctx for entered, _ in _entered):
        entered, applied = _entered.pop()
        if applied is not None:
            applied.restore()
        if entered is ctx:
            break
