"""The output of the commands `show` and `check`: a project's settings, and whether its server responds."""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlflow_connections import Endpoint, MissingOptionError
from mlflow_connections.deadline import Deadline
from mlflow_connections.discovery import find_connection
from mlflow_connections.environment import credential_variables
from mlflow_connections.reports import option_rows, probe_endpoint, table
from mlflow_connections.secrets import mask, mask_uri

from . import _kedro_mlflow
from ._config import (
    ConfigFiles,
    entry_name,
    is_content_fault,
    read_config,
    read_entry,
    unreadable,
)
from ._server import Server, Value, read_server
from ._session import resolve_server

_NO_URI = (
    "No tracking URI is set: write server.tracking_uri into conf/base/mlflow.yml, or set the "
    "environment variable MLFLOW_TRACKING_URI."
)


class Project(NamedTuple):
    """A project's settings in one environment.

    Attributes:
        name: The project's name for people.
        folder: Its folder.
        env: The requested environment, or None for the project's default.
        loader: Kedro's config loader.
        files: Names the loader's files.
        server: The settings.
        hooks_failed: The reason why the project's hooks could not be called; empty if they were, or
            if they are not needed.
    """

    name: str
    folder: Path
    env: str | None
    loader: Any
    files: ConfigFiles
    server: Server
    hooks_failed: str = ""

    def entry(self) -> Mapping[str, Any]:
        """Read the entry of the credentials that the settings name.

        Raises:
            ConnectionsError: The entry does not exist, or is not a mapping.
        """
        try:
            return read_entry(self.server.credentials, self.loader, self.files)
        except MissingOptionError as error:
            if self.hooks_failed:
                raise MissingOptionError(f"{error} {self.hooks_failed}") from None
            raise

    def entry_name(self) -> str:
        """Return that entry's name in messages."""
        return entry_name(self.server.credentials, self.files)

    def options_name(self) -> str:
        """Return the name of the options in messages."""
        return f"server.connection in {self.files.name('mlflow', 'server', 'connection')}"

    def secrets(self) -> list[Any]:
        """Return the values that must not be shown."""
        return list(self.entry().values())

    def exported(self) -> dict[str, str]:
        """Return the environment variables that the entry sets."""
        return credential_variables(self.entry(), self.entry_name())

    def endpoint(self) -> Endpoint | None:
        """Resolve as a run would, or return None if there is no tracking URI.

        Raises:
            ConnectionsError: Resolving failed; the message names the file and the fix.
        """
        self.entry()
        resolved = resolve_server(
            self.server, self.loader, self.files, self.folder, export_plain=True
        )
        return resolved.endpoint if resolved.endpoint.tracking_uri else None


def read_project(metadata: Any, env: str | None, params: dict[str, Any] | None = None) -> Project:
    """Read the settings of a project as a session would.

    A context, which calls the project's hooks, is created only if they may provide the credentials.
    kedro-mlflow's hook is excluded, because it would create the experiment.

    Args:
        metadata: Kedro's `ProjectMetadata`.
        env: The environment; None for `KEDRO_ENV`, or else the project's default.
        params: Runtime parameters, as in `kedro run --params`.

    Raises:
        ConnectionsError: The settings are invalid, or a file cannot be read.
    """
    from kedro.framework.project import settings

    env = env or os.environ.get("KEDRO_ENV") or None
    folder = Path(metadata.project_path)
    _register_kedro_mlflows_resolver()
    try:
        loader = settings.CONFIG_LOADER_CLASS(
            conf_source=str(folder / settings.CONF_SOURCE),
            env=env,
            runtime_params=params or {},
            **settings.CONFIG_LOADER_ARGS,
        )
    except Exception as error:
        if not is_content_fault(error):
            raise
        raise unreadable(error, "globals.yml") from None  # which a loader reads when it is created
    project = _read(metadata, folder, env, loader)
    if project.server.credentials is None:
        return project
    try:
        called = _loader_after_hooks(folder, env, params or {})
    except Exception as error:  # noqa: BLE001 - hooks may raise anything
        reason = mask(" ".join(str(error).split())) or type(error).__name__
        failed = f"The project's hooks, which may bring credentials, failed: {reason}"
        return project._replace(hooks_failed=failed)
    return project if called is None else _read(metadata, folder, env, called)


def _read(metadata: Any, folder: Path, env: str | None, loader: Any) -> Project:
    files = ConfigFiles(loader, folder)
    config = read_config(loader, "mlflow", files) or {}
    server = read_server(config, files, os.environ, strict=False)
    return Project(metadata.project_name, folder, env, loader, files, server)


def _loader_after_hooks(folder: Path, env: str | None, params: dict[str, Any]) -> Any:
    """Create a context as a session does, or return None if the project has no hooks of its own."""
    from kedro.framework.session import KedroSession

    from ._hooks import ConnectionHooks

    session = KedroSession.create(
        project_path=folder, env=env, runtime_params=params, save_on_close=False
    )
    manager = session._hook_manager
    for plugin in list(manager.get_plugins()):
        if isinstance(plugin, ConnectionHooks) or _kedro_mlflow.is_hook(plugin):
            manager.unregister(plugin)
    if not manager.hook.after_context_created.get_hookimpls():
        return None
    return session.load_context().config_loader


def _register_kedro_mlflows_resolver() -> None:
    """Let `${km.random_name:}` resolve: kedro-mlflow's own resolver imports MLflow, and `server` does not need it."""
    from omegaconf import OmegaConf

    if not OmegaConf.has_resolver("km.random_name"):
        # OmegaConf 2.4 deprecates the old name, the only one in 2.3.
        register = getattr(OmegaConf, "register_resolver", OmegaConf.register_new_resolver)
        register("km.random_name", lambda: "a-random-name")


def lines(project: Project) -> Iterator[str]:
    """Return the settings of a project as lines, then a table of each connection's options.

    Raises:
        ConnectionsError: The settings are invalid; the message names the file.
    """
    server = project.server
    yield f"project      {project.name} (environment {project.env or 'by default'})"
    yield f"tracking     {_shown(server.tracking)}"
    yield f"registry     {_shown(server.registry)}"
    if server.credentials is not None:
        yield f"credentials  {project.entry_name()}"
        if exported := project.exported():
            yield f"exported     {', '.join(sorted(exported))}"
    if project.hooks_failed:
        yield f"hooks        {project.hooks_failed}"
    if server.tracking is None:
        yield _NO_URI
    for keyword in dict.fromkeys(value.text for value in server.connections):
        yield ""
        yield from _options(project, keyword)


def _options(project: Project, keyword: str) -> Iterator[str]:
    places = {"options": project.options_name(), "credentials": project.entry_name()}
    rows = option_rows(find_connection(keyword), project.entry(), project.server.options)
    if not rows:
        yield f"{keyword} declares no options."
        return
    for row in rows:
        source = row["from"]
        row["from"] = f"variable {row['variable']}" if source == "environment" else source
        row["from"] = places.get(source, row["from"])
    yield f"Options of {keyword}:"
    yield table(rows, ("option", "value", "from", "variable", "help"))


def _shown(value: Value | None) -> str:
    if value is None:
        return "(left to MLflow)"
    kind = "connection " if value.is_connection else ""
    return f"{kind}{mask_uri(value.text)} ({value.place})"


def answer(project: Project, timeout: float) -> str:
    """Resolve, query the server for one experiment, and return a sentence with both durations.

    Args:
        project: The project.
        timeout: The time limit in seconds for resolving and the server's response together.

    Raises:
        ConnectionsError: The settings cannot be resolved, or the server does not respond.
    """
    started = time.perf_counter()
    deadline = Deadline(timeout)
    endpoint = deadline.call("the services of the project's connections", project.endpoint)
    if endpoint is None:
        raise MissingOptionError(_NO_URI)
    resolved = time.perf_counter() - started
    return probe_endpoint(endpoint, resolved, project.secrets(), deadline).sentence
