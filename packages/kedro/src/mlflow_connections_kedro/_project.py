"""A project's settings for the commands: read without making a context.

Making one would call every hook of the project; kedro-mlflow's creates the experiment.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlflow_connections import Endpoint

from ._credentials import place, read_entry, variables
from ._files import ConfigFiles, read_config
from ._leftovers import Leftovers
from ._server import Server, read_server
from ._session import anchored, connect


class Project(NamedTuple):
    """What the commands know of a project.

    Attributes:
        name: As people call it.
        folder: Where it is.
        env: The environment that is asked about, None for the project's default.
        loader: Kedro's config loader for it.
        files: Names the files of that.
        server: The settings.
    """

    name: str
    folder: Path
    env: str | None
    loader: Any
    files: ConfigFiles
    server: Server

    def entry(self) -> Mapping[str, Any]:
        """Give the entry of the credentials that the settings name.

        Raises:
            ConnectionsError: There is none, or it is no mapping.
        """
        return read_entry(self.server.credentials, self.loader, self.files)

    def credentials_place(self) -> str:
        """Say how a message calls that entry."""
        return place(self.server.credentials, self.files)

    def options_place(self) -> str:
        """Say how a message calls the options."""
        return f"server.connection in {self.files.name('mlflow', 'server', 'connection')}"

    def secrets(self) -> list[Any]:
        """Give every value that must not be shown."""
        return list(self.entry().values())

    def exported(self) -> dict[str, str]:
        """Give the environment variables that the entry sets."""
        return variables(self.entry(), self.credentials_place())

    def endpoint(self) -> Endpoint | None:
        """Resolve as a run would, and export what the URI needs; None where nobody has said any.

        Raises:
            ConnectionsError: The message names the file and the cure.
        """
        leftovers = Leftovers()
        leftovers.begin()
        connected = connect(self.server, self.loader, self.files, leftovers, export_plain=True)
        tracking = anchored(connected.tracking, self.folder)
        if tracking is None:
            return None
        return Endpoint(tracking, anchored(connected.registry, self.folder))


def open_project(metadata: Any, env: str | None) -> Project:
    """Read the settings of a project that Kedro has found.

    Args:
        metadata: Kedro's `ProjectMetadata`.
        env: The environment; None for `KEDRO_ENV`, or else the project's default.

    Raises:
        ConnectionsError: The settings cannot be meant.
    """
    from kedro.framework.project import settings

    env = env or os.environ.get("KEDRO_ENV") or None
    folder = Path(metadata.project_path)
    _know_the_resolver_of_kedro_mlflow()
    loader = settings.CONFIG_LOADER_CLASS(
        conf_source=str(folder / settings.CONF_SOURCE), env=env, **settings.CONFIG_LOADER_ARGS
    )
    files = ConfigFiles(loader, folder)
    config = read_config(loader, "mlflow") or {}
    server = read_server(config, files, os.environ, strict=False)
    return Project(metadata.project_name, folder, env, loader, files, server)


def _know_the_resolver_of_kedro_mlflow() -> None:
    """Let `${km.random_name:}` pass: its real meaning comes with MLflow and has no part in `server`."""
    from omegaconf import OmegaConf

    if not OmegaConf.has_resolver("km.random_name"):
        # OmegaConf 2.4 warns of the old name, 2.3 has only that.
        register = getattr(OmegaConf, "register_resolver", OmegaConf.register_new_resolver)
        register("km.random_name", lambda: "a-random-name")
