"""The hook: what Kedro calls as a session's context is made.

One plugin object implements the same specification three times: first of all, in the order of
plugins, and last of all. Kedro loads this module in every session, so nothing is imported at its
top but what Kedro has imported already.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedro.framework.context import KedroContext

    from ._leftovers import Leftovers
    from ._session import Connected

logger = logging.getLogger(__name__)


class ConnectionHooks:
    """Lets a session track where `server` in mlflow.yml says, with kedro-mlflow or without."""

    def __init__(self) -> None:
        self._leftovers: Leftovers | None = None
        self._applied = False
        self._resolved = False

    @hook_impl(specname="after_context_created", tryfirst=True)
    def prepare(self, context: KedroContext) -> None:
        """Let kedro-mlflow, where it is at work, read plain URIs."""
        from kedro.config import AbstractConfigLoader

        from mlflow_connections.specified_path import install

        install()
        self._applied = self._resolved = False
        loader = context.config_loader
        if _kedro_mlflow_works(context) and isinstance(loader, AbstractConfigLoader):
            from . import _view
            from ._files import know_mlflow_yml

            know_mlflow_yml(loader)
            _view.install(loader, lambda original: self._view(context, original))

    @hook_impl(specname="after_context_created")
    def apply(self, context: KedroContext) -> None:
        """Set MLflow's URIs, where kedro-mlflow does not."""
        from mlflow_connections import ConnectionsError

        if _kedro_mlflow_works(context):
            return
        try:
            self._apply(context)
        except ConnectionsError as error:
            # A hook of the user's that is called later may bring the credentials that are missing.
            logger.debug("Not resolved yet: %s", error)

    @hook_impl(specname="after_context_created", trylast=True)
    def settle(self, context: KedroContext) -> None:
        """Try what did not work before, and remember what is in force."""
        if not _kedro_mlflow_works(context) and not self._applied:
            self._apply(context)
        if self._leftovers is not None and self._resolved:
            self._leftovers.keep()

    def _apply(self, context: KedroContext) -> None:
        from mlflow_connections.mlflow_state import set_uris

        from ._files import read_config
        from ._session import anchored

        config = read_config(context.config_loader, "mlflow")
        connected = self._connect(context, config or {}, standalone=True)
        if connected is not None:
            project = context.project_path
            set_uris(anchored(connected.tracking, project), anchored(connected.registry, project))
        self._applied = True

    def _view(self, context: KedroContext, original: Callable[[], Any]) -> dict[str, Any]:
        from kedro.config import MissingConfigException

        from ._view import plain

        missing = None
        try:
            config = original()
        except MissingConfigException as error:
            config, missing = {}, error
        read = plain(config, self._connect(context, config, standalone=False))
        if missing is not None and not read:
            raise missing
        return read

    def _connect(
        self, context: KedroContext, config: dict[str, Any], *, standalone: bool
    ) -> Connected | None:
        """Resolve a session's settings; None while a run is active, whose server is used."""
        from ._files import ConfigFiles
        from ._leftovers import Leftovers
        from ._server import read_server
        from ._session import active_run, connect, orchestrated_run

        if run := active_run():
            logger.info("The MLflow run %s is active: mlflow.yml's server is not resolved.", run)
            return None
        self._leftovers = self._leftovers or Leftovers()
        self._leftovers.begin()
        if run := orchestrated_run(os.environ):
            logger.info("MLFLOW_RUN_ID is %s: mlflow.yml's server is not resolved.", run)
            return None
        loader = context.config_loader
        files = ConfigFiles(loader, context.project_path)
        try:
            server = read_server(config, files, os.environ, strict=standalone)
            connected = connect(server, loader, files, self._leftovers, export_plain=standalone)
        except BaseException:
            self._leftovers.undo()
            raise
        # kedro-mlflow is about to export the whole entry of a plain URI, for this session.
        theirs = not standalone and not server.connections
        self._leftovers.keep(_names(loader, server.credentials) if theirs else ())
        self._resolved = True
        return connected


def _kedro_mlflow_works(context: KedroContext) -> bool:
    """Tell whether kedro-mlflow's hook, or a project's subclass of it, is registered."""
    return any(
        cls.__name__ == "MlflowHook" and cls.__module__.startswith("kedro_mlflow.")
        for plugin in context._hook_manager.get_plugins()
        for cls in type(plugin).__mro__
    )


def _names(loader: Any, name: str | None) -> list[str]:
    from ._files import read_config

    if name is None:
        return []
    entry = (read_config(loader, "credentials") or {}).get(name)
    return [str(key) for key in entry] if isinstance(entry, dict) else []


hooks = ConnectionHooks()
