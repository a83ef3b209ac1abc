"""The plugin object that Kedro registers in every session.

Kedro imports this module in every session, so its top imports only modules that Kedro has already
imported.
"""

from __future__ import annotations

import os
import threading
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Generator, Iterable, Mapping

    from kedro.framework.context import KedroContext

    from ._config import ConfigFiles
    from ._mlflow import RunNames
    from ._runs import PipelineRuns
    from ._session import Resolved, SessionBoundary

_thread = threading.local()  # `session_id`: of the node that runs in this thread


class ConnectionHooks:
    """Makes sessions use the server in mlflow.yml, with or without kedro-mlflow.

    One object serves all sessions of a process, because its entry point names an object.
    """

    def __init__(self) -> None:
        self._boundary: SessionBoundary | None = None
        self._session: SessionConnection | None = None
        self._pipelines: dict[str, PipelineRuns] = {}
        self._orchestrated: set[str] = set()

    @hook_impl(specname="after_context_created", wrapper=True)
    def connect(self, context: KedroContext) -> Generator[None, Any, Any]:
        """Prepare kedro-mlflow's view before all other hooks; resolve changed settings after them."""
        from mlflow_connections.specified_path import install

        from ._session import SessionBoundary

        install()
        self._end_interrupted()
        if self._boundary is None:
            self._boundary = SessionBoundary()
        self._session = SessionConnection(context, self._boundary, self._orchestrated)
        self._session.prepare()
        result = yield
        self._session.settle()
        return result

    @hook_impl(specname="after_context_created")
    def apply(self) -> None:
        """Set MLflow's URIs early, so that the project's own hooks find them."""
        from mlflow_connections import ConnectionsError

        if self._session is not None and self._session.kedro_mlflow is None:
            try:
                self._session.apply()
            except ConnectionsError as error:
                # A later hook may add the missing credentials.
                _logger().debug("Not resolved yet: %s", error)

    @hook_impl(specname="before_pipeline_run", tryfirst=True)
    def begin_pipeline(self, run_params: dict[str, Any]) -> None:
        """Resolve again if credentials changed; from this point, new runs belong to the pipeline."""
        from ._runs import PipelineRuns, prepare_folder

        if self._session is not None:
            self._session.refresh()
        session_id = _session_id(run_params)
        prepare_folder()
        self._pipelines[session_id] = PipelineRuns(session_id, frozenset(self._orchestrated))

    @hook_impl(specname="before_pipeline_run", trylast=True)
    def refresh(self) -> None:
        """Resolve again if a hook of the project has just changed the credentials."""
        if self._session is not None:
            self._session.refresh()

    @hook_impl
    def before_node_run(self, run_id: str) -> None:
        """Record, in this thread, the session that its node belongs to."""
        _thread.session_id = run_id

    @hook_impl
    def after_node_run(self) -> None:
        """Record the runs that the node has started."""
        self._note()

    @hook_impl
    def on_node_error(self) -> None:
        """Record the runs that the node has started."""
        self._note()

    @hook_impl
    def after_dataset_saved(self) -> None:
        """Record the runs that a generator node or a dataset has started."""
        self._note()

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """End the runs that the pipeline started."""
        self._end_pipeline(_session_id(run_params), "FINISHED")

    @hook_impl(trylast=True)
    def on_pipeline_error(self, run_params: dict[str, Any]) -> None:
        """End the runs that the pipeline started, as failed ones."""
        self._end_pipeline(_session_id(run_params), "FAILED")

    def leave(self) -> None:
        """Restore the state before the last session of this process."""
        if self._boundary is not None:
            self._boundary.leave()

    def _note(self) -> None:
        session_id = getattr(_thread, "session_id", None)
        pipeline = self._pipelines.get(session_id) if session_id else None
        if pipeline is not None and pipeline.is_here:
            pipeline.note()
        elif session_id:
            from ._runs import leave_note

            leave_note(session_id)

    def _end_pipeline(self, session_id: str, status: str) -> None:
        pipeline = self._pipelines.pop(session_id, None)
        if pipeline is not None and pipeline.is_here:
            # kedro-mlflow ends its own run, unless Ctrl-C prevented it.
            theirs = getattr(self._session and self._session.kedro_mlflow, "run_id", None)
            pipeline.end(status, frozenset({theirs} if theirs and status != "KILLED" else ()))

    def _end_interrupted(self) -> None:
        """End the runs of pipelines that Ctrl-C stopped: Kedro calls no hook for that."""
        for session_id, pipeline in list(self._pipelines.items()):
            if pipeline.is_here and pipeline.is_interrupted:
                self._end_pipeline(session_id, "KILLED")


class SessionConnection:
    """The connection of one session to its server.

    Args:
        context: Kedro's context of the session.
        boundary: The changes of the last session in this process.
        orchestrated: The IDs of active runs that no session started; this object adds to them.
    """

    def __init__(
        self, context: KedroContext, boundary: SessionBoundary, orchestrated: set[str]
    ) -> None:
        from . import _kedro_mlflow

        self.kedro_mlflow = _kedro_mlflow.hook(context)
        self._context = context
        self._boundary = boundary
        self._orchestrated = orchestrated
        self._config: dict[str, Any] = {}
        self._replaced: Any = None
        self._applied = False
        self._uses_run = False

    def prepare(self) -> None:
        """Let kedro-mlflow, if it is registered, read plain URIs."""
        from kedro.config import AbstractConfigLoader

        loader = self._context.config_loader
        if self.kedro_mlflow is not None and isinstance(loader, AbstractConfigLoader):
            from . import _kedro_mlflow
            from ._config import add_mlflow_pattern

            add_mlflow_pattern(loader)
            _kedro_mlflow.install(loader, self._view)

    def apply(self) -> None:
        """Set MLflow's URIs, which is this package's task without kedro-mlflow."""
        from ._config import ConfigFiles, read_config

        loader = self._context.config_loader
        files = ConfigFiles(loader, self._context.project_path)
        self._connect(read_config(loader, "mlflow", files) or {})

    def settle(self) -> None:
        """Resolve if the first attempt failed, or if a hook has replaced credentials since."""
        if self.kedro_mlflow is None and not self._applied:
            self.apply()
        else:
            self.refresh()
        self._remember()

    def refresh(self) -> None:
        """Resolve again if hooks have changed their values in the config loader."""
        if not self._applied or self._uses_run or self._replaced == self._read_replaced():
            return
        if self.kedro_mlflow is None:
            self.apply()
            return
        from mlflow_connections.mlflow_state import active_run_id

        from . import _kedro_mlflow

        if active_run_id() is not None:
            self._renew_credentials()
            return
        # kedro-mlflow keeps the URI and its own client: make it start again.
        _kedro_mlflow.forget(self._context.config_loader)
        self.kedro_mlflow.after_context_created(context=self._context)
        self._remember()

    def _renew_credentials(self) -> None:
        """Replace the credentials of kedro-mlflow's run, which has already started."""
        from ._config import ConfigFiles
        from ._session import shown

        self._replaced = self._read_replaced()
        files = ConfigFiles(self._context.config_loader, self._context.project_path)
        with self._boundary.withdrawn():
            resolved = self._resolve(self._config, files)
        if self._boundary.holds(resolved.endpoint):
            if resolved.server.connections:
                self._boundary.enter(resolved.endpoint)
            return
        _logger().warning(
            "The credentials changed after kedro-mlflow had started its run, which stays on %s, "
            "although they lead to %s now. Change them in after_catalog_created or before.",
            shown(self._boundary.server),
            shown(resolved.endpoint.tracking_uri),
        )

    def _view(self, original: Callable[[], Any]) -> dict[str, Any]:
        from kedro.config import MissingConfigException

        from ._kedro_mlflow import plain

        missing = None
        try:
            config = original()
        except MissingConfigException as error:
            config, missing = {}, error
        resolved = self._connect(config)
        view = plain(config, resolved, self._fetch_resumed_names(config, resolved))
        if missing is not None and not view:
            raise missing
        return view

    def _fetch_resumed_names(
        self, config: dict[str, Any], resolved: Resolved | None
    ) -> RunNames | None:
        """Fetch the names of the run in MLFLOW_RUN_ID; None if there is none."""
        from mlflow_connections.mlflow_state import active_run_id, tracking_uri

        from ._mlflow import fetch_run_names
        from ._session import set_meanwhile

        run = os.environ.get("MLFLOW_RUN_ID")
        uri = resolved.endpoint.tracking_uri if resolved else tracking_uri()
        if not run or not uri or active_run_id():
            return None
        # kedro-mlflow exports the credentials of a plain URI only later.
        with set_meanwhile(self._entry(config) if resolved else {}):
            return fetch_run_names(run, uri)

    def _connect(self, config: dict[str, Any]) -> Resolved | None:
        """Resolve the settings and activate their server.

        Returns:
            The settings, or None if the server of an active or resumed run is used instead.
        """
        from mlflow_connections.mlflow_state import active_run_id

        from ._config import ConfigFiles
        from ._session import resumed_run

        files = ConfigFiles(self._context.config_loader, self._context.project_path)
        self._config, self._replaced = config, self._read_replaced()
        active, server_of_run = active_run_id(), self._boundary.server
        if active and (server_of_run is None or active in self._orchestrated):
            self._orchestrated.add(active)
            self._boundary.withdraw_credentials()
            self._use_run(active, "is active", config, files)
            return None
        with self._boundary.withdrawn():
            resumed = resumed_run(os.environ)
            resolved = None if resumed else self._resolve(config, files)
        if resolved is None:
            self._boundary.leave()
            self._use_run(str(resumed), "is named by MLFLOW_RUN_ID", config, files)
            return None
        if active and not self._boundary.holds(resolved.endpoint):
            self._end_left_over(active, server_of_run, resolved)
        if self.kedro_mlflow is None or resolved.server.connections:
            self._boundary.enter(resolved.endpoint)
        else:
            self._boundary.watch(resolved.endpoint, keep=bool(active))
        self._applied, self._uses_run = True, False
        return resolved

    def _resolve(self, config: dict[str, Any], files: ConfigFiles) -> Resolved:
        from ._server import read_server
        from ._session import resolve_server

        alone = self.kedro_mlflow is None
        server = read_server(config, files, os.environ, strict=alone)
        loader, project = self._context.config_loader, self._context.project_path
        return resolve_server(server, loader, files, project, export_plain=alone)

    def _use_run(self, run: str, state: str, config: dict[str, Any], files: ConfigFiles) -> None:
        """Use the run of an orchestrator on its server, and warn if mlflow.yml names another one."""
        from mlflow_connections import ConnectionsError
        from mlflow_connections.mlflow_state import tracking_uri

        from ._server import read_server
        from ._session import anchored, may_be, shown

        self._applied = self._uses_run = True
        current = tracking_uri() or ""
        try:
            value = read_server(config, files, {}, strict=False).tracking
        except ConnectionsError as error:
            _logger().warning("The MLflow run %s %s and is used, but: %s", run, state, error)
            return
        if value is None:
            return
        wanted = anchored(value.text, self._context.project_path) or ""
        if value.is_connection:
            same, wanted = may_be(value, current), f"the connection '{value.text}'"
        else:
            same, wanted = wanted.rstrip("/") == current.rstrip("/"), shown(wanted)
        message = "The MLflow run %s %s on %s, which is used instead of %s (%s)."
        arguments = (run, state, shown(current), wanted, value.place)
        if same:
            _logger().info(message, *arguments)
        else:
            _logger().warning(message, *arguments)

    def _end_left_over(self, run: str, uri: str | None, resolved: Resolved) -> None:
        """End the runs that an earlier session left active on another server."""
        from ._mlflow import active_runs, end_active_runs
        from ._session import shown

        tracking = resolved.server.tracking
        _logger().warning(
            "The MLflow run %s was still active on %s, where an earlier session of this process "
            "tracked. It was ended, since this session tracks to %s (%s).",
            run,
            shown(uri),
            shown(resolved.endpoint.tracking_uri),
            tracking.place if tracking else "no tracking URI is set",
        )
        try:
            end_active_runs(active_runs(), "FINISHED")
        except Exception as error:  # noqa: BLE001 - the session must not go to the wrong server
            _logger().warning("MLflow could not end the run %s: %s", run, type(error).__name__)

    def _read_replaced(self) -> Any:
        """Return a copy of the credentials and of mlflow.yml that hooks have set in the config loader."""
        data = getattr(self._context.config_loader, "data", {})
        found = {key: data[key] for key in ("credentials", "mlflow") if key in data}
        try:
            return deepcopy(found)
        except Exception:  # noqa: BLE001 - values of any class; compared by identity then
            return found

    def _remember(self) -> None:
        if self._applied and not self._uses_run:
            self._boundary.remember(self._exported() if self.kedro_mlflow is not None else ())

    def _exported(self) -> Iterable[str]:
        """Return the names of the variables that kedro-mlflow has exported for a plain URI."""
        from kedro.config import MissingConfigException

        try:
            return self._entry(self._context.config_loader["mlflow"])
        except MissingConfigException:
            return ()

    def _entry(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Return the entry of the credentials, which kedro-mlflow exports whole for a plain URI."""
        name = (config.get("server") or {}).get("credentials")
        if name is None:
            return {}
        entry = self._context.config_loader["credentials"].get(name)
        return {str(k): str(v) for k, v in entry.items()} if isinstance(entry, dict) else {}


def _logger() -> logging.Logger:
    from mlflow_connections.secrets import get_logger

    return get_logger(__name__)


def _session_id(run_params: dict[str, Any]) -> str:
    # Kedro 1.0 calls it `session_id`; since 1.1 it is `run_id`.
    return str(run_params.get("run_id") or run_params.get("session_id"))


hooks = ConnectionHooks()
