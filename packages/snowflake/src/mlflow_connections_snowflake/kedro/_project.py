"""Read a Kedro project without creating a context, which would call every hook."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections.secrets import masked
from mlflow_connections_snowflake._errors import BridgeError, message_of
from mlflow_connections_snowflake._session import open_session

from ._code import Archives, project_files, write
from ._data import catalog_inside, files_to_bring, is_parameter, places_of
from ._plan import SECTION, Plan, Settings, plan, read_settings
from ._task_names import PLACES_FILE

if TYPE_CHECKING:
    from snowflake.snowpark import Session

_PATTERNS = ("snowflake*", "snowflake*/**", "**/snowflake*")
_DEFAULT_ENTRY = "snowflake"


class PipelineProject(NamedTuple):
    """A project and its configuration in one environment.

    Attributes:
        package: Its package.
        folder: Its folder.
        source: The folder of its code.
        env: The environment.
        params: Parameters that override the configuration.
        loader: Kedro's config loader.
        settings: The settings in snowflake.yml.
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
            ConnectionsError: The pipeline does not exist, or Snowflake could not run it.
        """
        from kedro.framework.project import pipelines

        return plan(self.settings, self.package, pipeline, self.env, self.params, pipelines)

    def archives(self, pipeline: str) -> Archives:
        """Write the archives of a pipeline's code and data into the project's folder `dist`.

        Raises:
            ConnectionsError: A dataset of the pipeline cannot be used in Snowflake.
        """
        from kedro.framework.project import pipelines

        found = pipelines[pipeline]
        datasets = {one for one in found.datasets() if not is_parameter(one)}
        entries = _read(self.loader, "catalog") or {}
        places = places_of(
            entries,
            _read(self.loader, "credentials") or {},
            datasets,
            stages=self.settings.stages,
            secrets=self.settings.secrets,
            internal_stage=self.settings.stage,
        )
        catalog = self._catalog(catalog_inside(entries, datasets, places))
        data = files_to_bring(found, catalog, self.folder)
        conf = Path(self.loader.conf_source)
        environments = dict.fromkeys((self.loader.base_env, self.env))
        files = project_files(self.folder, self.source, conf, environments, data)
        files[PLACES_FILE] = json.dumps(places, sort_keys=True).encode()
        return write(self.folder / "dist" / "snowflake", files)

    def open_session(self, connection: str | None) -> "Session":
        """Open a session by a named connection, by credentials.yml, or by the environment.

        The warehouse of snowflake.yml is activated: creating a procedure and reading the task
        history need one, and a user may have no default.

        Raises:
            ConnectionsError: The connection does not exist, Snowflake refused the credentials, or
                the warehouse cannot be used.
        """
        from snowflake.snowpark.exceptions import SnowparkClientException

        session = self._session(connection)
        warehouse = self.settings.warehouse
        try:
            session.use_warehouse(warehouse.sql)
        except SnowparkClientException as error:
            session.close()
            raise BridgeError(
                f"The warehouse {warehouse} of snowflake.yml cannot be used: "
                f"{message_of(error).rstrip('.')}. Grant USAGE on it to the role, or name another."
            ) from masked(error)
        return session

    def _session(self, connection: str | None) -> "Session":
        if connection is not None:
            return open_session(connection)
        name = self.settings.credentials
        entries = _read(self.loader, "credentials") or {}
        if name is not None and name not in entries:
            raise MissingOptionError(
                f"{SECTION}.credentials in snowflake.yml names {name!r}, which is not an entry of "
                "the project's credentials.yml. Add it there."
            )
        entry = entries.get(name or _DEFAULT_ENTRY)
        if entry is not None and not isinstance(entry, Mapping):
            # The value is not shown: it may be a secret.
            raise InvalidOptionError(
                f"The entry {name or _DEFAULT_ENTRY!r} of credentials.yml must be a mapping of "
                "keys to values, as in 'account: ...'."
            )
        parameters = {**self.settings.connection, **(entry or {})}
        return open_session(parameters=parameters or None)

    def _catalog(self, entries: dict[str, Any]) -> Any:
        from kedro.framework.context.context import _convert_paths_to_absolute_posix
        from kedro.framework.project import settings

        return settings.DATA_CATALOG_CLASS.from_config(
            catalog=_convert_paths_to_absolute_posix(
                project_path=self.folder, conf_dictionary=entries
            )
        )


def open_project(metadata: Any, env: str | None, params: Mapping[str, Any]) -> PipelineProject:
    """Read a project's settings for Snowflake.

    Args:
        metadata: Kedro's `ProjectMetadata`.
        env: The environment; None for `KEDRO_ENV`, or else the project's default.
        params: Parameters that override the configuration.

    Raises:
        ConnectionsError: snowflake.yml is missing, or a setting is invalid.
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
            f"{where} has no section '{SECTION}', which pipelines in Snowflake need. Add it there."
        )
    return PipelineProject(
        metadata.package_name,
        folder,
        Path(metadata.source_dir),
        used,
        params,
        loader,
        read_settings(content[SECTION], where, _read(loader, "credentials")),
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
    """Return the file that contains the section; an environment's section replaces that of base."""
    for environment in environments:
        for path in sorted((conf / environment).glob(f"{SECTION}.y*ml")):
            return path.relative_to(conf.parent).as_posix()
    return f"{conf.name}/{environments[-1]}/{SECTION}.yml"
