"""A project as its commands see it: read without making a context, which would call every hook."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections_snowflake._session import open_session

from ._code import Archives, project_files, write
from ._data import files_to_bring
from ._plan import SECTION, Plan, Settings, plan, read_settings

if TYPE_CHECKING:
    from snowflake.snowpark import Session

_PATTERNS = ("snowflake*", "snowflake*/**", "**/snowflake*")
_DEFAULT_ENTRY = "snowflake"


class Project(NamedTuple):
    """A project, with what its configuration says in one environment.

    Attributes:
        package: Its package.
        folder: Where it is.
        source: Where its code is.
        env: The environment.
        params: Parameters that take precedence over the configuration.
        loader: Kedro's config loader.
        settings: What snowflake.yml says.
    """

    package: str
    folder: Path
    source: Path
    env: str
    params: Mapping[str, Any]
    loader: Any
    settings: Settings

    def plan(self, pipeline: str) -> Plan:
        """Plan the tasks of a pipeline.

        Raises:
            ConnectionsError: There is no such pipeline, or Snowflake could not run it.
        """
        from kedro.framework.project import pipelines

        return plan(self.settings, self.package, pipeline, self.env, self.params, pipelines)

    def archives(self, pipeline: str) -> Archives:
        """Write what a pipeline needs in Snowflake into the project's folder `dist`.

        Raises:
            ConnectionsError: A dataset of the pipeline cannot be used in Snowflake.
        """
        from kedro.framework.project import pipelines

        data = files_to_bring(pipelines[pipeline], self._catalog(), self.folder)
        conf = Path(self.loader.conf_source)
        environments = dict.fromkeys((self.loader.base_env, self.env))
        files = project_files(self.folder, self.source, conf, environments, data)
        return write(self.folder / "dist" / "snowflake", files)

    def open_session(self, connection: str | None) -> "Session":
        """Open a session: by a name in connections.toml, by credentials.yml, or by the environment.

        Raises:
            ConnectionsError: There is no such connection, or Snowflake did not let us in.
        """
        if connection is not None:
            return open_session(connection)
        name = self.settings.credentials
        entries = _read(self.loader, "credentials") or {}
        if name is not None and name not in entries:
            raise MissingOptionError(
                f"{SECTION}.credentials in snowflake.yml names {name!r}, which is no entry of "
                "the project's credentials.yml: add it there."
            )
        entry = entries.get(name or _DEFAULT_ENTRY)
        if entry is not None and not isinstance(entry, Mapping):
            # The value is not shown: it can only be a secret.
            raise InvalidOptionError(
                f"The entry {name or _DEFAULT_ENTRY!r} of credentials.yml must be a mapping of "
                "keys to values, as in 'account: ...'."
            )
        return open_session(parameters=entry)

    def _catalog(self) -> Any:
        from kedro.framework.context.context import _convert_paths_to_absolute_posix
        from kedro.framework.project import settings

        return settings.DATA_CATALOG_CLASS.from_config(
            catalog=_convert_paths_to_absolute_posix(
                project_path=self.folder, conf_dictionary=_read(self.loader, "catalog") or {}
            ),
            credentials=_read(self.loader, "credentials"),
        )


def open_project(metadata: Any, env: str | None, params: Mapping[str, Any]) -> Project:
    """Read what a project says about Snowflake.

    Args:
        metadata: Kedro's `ProjectMetadata`.
        env: The environment; None for `KEDRO_ENV`, or else the project's default.
        params: Parameters that take precedence over the configuration.

    Raises:
        ConnectionsError: snowflake.yml is missing, or something in it cannot work.
    """
    from kedro.framework.project import settings

    folder = Path(metadata.project_path)
    loader = settings.CONFIG_LOADER_CLASS(
        conf_source=str(folder / settings.CONF_SOURCE),
        env=env or os.environ.get("KEDRO_ENV") or None,
        runtime_params=dict(params),
        **settings.CONFIG_LOADER_ARGS,
    )
    used = loader.env or loader.default_run_env
    content = _read(loader, SECTION) or {}
    where = _where(Path(loader.conf_source), used, loader.base_env)
    if SECTION not in content:
        raise MissingOptionError(
            f"{where} has no section '{SECTION}', which says how pipelines run in Snowflake."
        )
    return Project(
        metadata.package_name,
        folder,
        Path(metadata.source_dir),
        used,
        params,
        loader,
        read_settings(content[SECTION], where),
    )


def _read(loader: Any, key: str) -> dict[str, Any] | None:
    from kedro.config import MissingConfigException

    if SECTION not in loader.config_patterns:
        loader.config_patterns[SECTION] = list(_PATTERNS)
    try:
        return dict(loader[key])
    except (MissingConfigException, KeyError):
        return None


def _where(conf: Path, *environments: str) -> str:
    """Identifier the file that the section is read from; the environment's replaces the base's whole."""
    for environment in environments:
        for path in sorted((conf / environment).glob(f"{SECTION}.y*ml")):
            return path.relative_to(conf.parent).as_posix()
    return f"{conf.name}/{environments[-1]}/{SECTION}.yml"
