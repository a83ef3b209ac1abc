"""A pipeline's settings in snowflake.yml, and its tasks: one for each node."""

import difflib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections.secrets import get_logger
from mlflow_connections_snowflake._config import SECTION as MLFLOW_SECTION
from mlflow_connections_snowflake._config import BridgeConfig, read
from mlflow_connections_snowflake._names import Identifier, name, stage
from mlflow_connections_snowflake._section import Section

from ._task_names import END, MLFLOW, below, root_of, suffixed

if TYPE_CHECKING:
    from kedro.pipeline import Pipeline

_logger = get_logger(__name__)

SECTION = "snowflake"
REPOSITORIES = {
    "pypi": "snowflake.snowpark.pypi_shared_repository",
    "anaconda": "snowflake.snowpark.anaconda_shared_repository",
}
"""Snowflake's shared repositories. The default differs between accounts (BCR-2325)."""

KEYS = (
    *("database", "schema", "warehouse", "stage", "packages", "repository", "python"),
    *("schedule", "retries", "timeout_minutes", "credentials", "pipeline_name_mapping"),
    *("stages", "secrets"),
    MLFLOW_SECTION,
)
# The sections of kedro-snowflake, and the keys in them that this package reads.
_CONNECTION = "connection"
_RUNTIME = "runtime"
_CONNECTION_KEYS = (
    *("credentials", "account", "user", "password_from_env", "role"),
    *("database", "schema", "warehouse"),
)
_IDENTITY_KEYS = ("account", "user", "password_from_env", "role")
_RUNTIME_KEYS = (
    *("stage", "schedule", "pipeline_name_mapping", "dependencies", "temporary_stage"),
    "stored_procedure_name_suffix",
)
_IGNORED = ("temporary_stage", "stored_procedure_name_suffix")

_NEEDED = ("snowflake-snowpark-python", "kedro")
# Enough for tracking, unless the project asks for all of MLflow.
_MLFLOW = "mlflow-skinny"
_OLDEST_PYTHON = 10
# https://docs.snowflake.com/en/user-guide/tasks-graphs
_TASKS, _NEIGHBOURS = 1000, 100


class CredentialSecret(NamedTuple):
    """An entry of credentials.yml that is a secret in Snowflake.

    Attributes:
        secret: The secret: a GENERIC_STRING with the entry as JSON, or a PASSWORD.
        integration: The external access integration that allows the secret and its service.
    """

    secret: Identifier
    integration: Identifier


@dataclass(frozen=True)
class Settings:
    """The settings of all pipelines of a project.

    Attributes:
        home: The database and schema of the tasks, the procedures and the stage.
        warehouse: The warehouse that runs the tasks.
        stage: Holds the code, and the data that passes between nodes.
        packages: Pinned requirements that Snowflake installs for the procedures.
        repository: The repository of the packages.
        python: The version of Python, such as `3.11`.
        schedule: The schedule on which Snowflake runs a pipeline; empty for none.
        retries: The number of automatic retries of a failed pipeline.
        timeout_minutes: The limit of a node; None leaves it at Snowflake's hour.
        credentials: The entry of credentials.yml to connect with; None if none is named.
        names: The names of pipelines in Snowflake, where they differ from Kedro's.
        connection: Parameters of the connection from kedro-snowflake's section `connection`.
        mlflow: The way to MLflow; None for pipelines without MLflow.
        stages: The external stage of each location in the cloud, `s3://bucket/path/`.
        secrets: The secret of each entry of credentials.yml that has one in Snowflake.
    """

    home: Identifier
    warehouse: Identifier
    stage: Identifier
    packages: tuple[str, ...]
    repository: Identifier
    python: str
    schedule: str
    retries: int
    timeout_minutes: int | None
    credentials: str | None
    names: Mapping[str, str] = field(hash=False)
    connection: Mapping[str, str] = field(hash=False)
    mlflow: BridgeConfig | None
    stages: Mapping[str, Identifier] = field(default_factory=dict, hash=False)
    secrets: Mapping[str, CredentialSecret] = field(default_factory=dict, hash=False)

    @property
    def external_access(self) -> bool:
        """Whether nodes reach MLflow itself, without external functions."""
        return self.mlflow is not None and self.mlflow.external_access is not None


def read_settings(
    content: object, where: str, credentials: Mapping[str, Any] | None = None
) -> Settings:
    """Return the checked settings from the content of snowflake.yml.

    The sections `connection` and `runtime` of kedro-snowflake are read as well.

    Args:
        content: The mapping under `snowflake`.
        where: The file, for messages.
        credentials: The entries of credentials.yml, which may name database, schema and warehouse.

    Raises:
        InvalidOptionError: A value is invalid, or a package has no known version.
        MissingOptionError: A required key is missing.
    """
    section = Section({} if content is None else content, SECTION, where)
    section.only(*KEYS, _CONNECTION, _RUNTIME)
    connection, runtime = section.section(_CONNECTION), section.section(_RUNTIME)
    connection.only(*_CONNECTION_KEYS)
    runtime.only(*_RUNTIME_KEYS)
    entry = section.text("credentials", connection.text("credentials", "")) or None
    known = (credentials or {}).get(entry) if entry else None
    places = [section, connection]
    if isinstance(known, Mapping):
        places.append(Section(known, f"{entry}", "credentials.yml"))
    home = Identifier(tuple(_one(places, key) for key in ("database", "schema")))
    for key in _IGNORED:
        if runtime.content.get(key):
            _logger.info("%s is not needed and not read.", runtime.place(key))
    with_mlflow = _has_mlflow(section)
    repository = section.text("repository", "pypi")
    return Settings(
        home,
        Identifier((_one(places, "warehouse"),)),
        stage(
            section.text("stage", runtime.text("stage", "@KEDRO_PIPELINES")), section.place("stage")
        ).within(*home.parts),
        _packages(section, runtime, repository, with_mlflow=with_mlflow),
        name(
            REPOSITORIES.get(repository, repository),
            f"{section.place('repository')} (a repository, pypi or anaconda)",
        ),
        _python(section),
        section.text("schedule", runtime.text("schedule", "")),
        _number(section, "retries", 0, 30) or 0,
        _number(section, "timeout_minutes", 1, 7 * 24 * 60),
        entry,
        _names(section, runtime),
        {key: connection.text(key) for key in _IDENTITY_KEYS if connection.content.get(key)},
        read(
            {
                SECTION: {
                    **section.content,
                    **dict(zip(("database", "schema"), home.parts, strict=True)),
                }
            },
            where,
        )
        if with_mlflow
        else None,
        _stages(section, home),
        _secrets(section, home),
    )


def _stages(section: Section, home: Identifier) -> dict[str, Identifier]:
    given = section.section("stages")
    found = {}
    for location in given.content:
        if not re.fullmatch(r"[a-z][a-z0-9+]*://[^\s]+/", str(location)):
            raise given.invalid(str(location), "is not a URL that ends with a slash")
        text = given.text(str(location))
        found[str(location)] = stage(text, given.place(str(location))).within(*home.parts)
    return found


def _secrets(section: Section, home: Identifier) -> dict[str, CredentialSecret]:
    given = section.section("secrets")
    found = {}
    for entry in given.content:
        one = given.section(entry)
        one.only("secret", "integration")
        found[entry] = CredentialSecret(
            name(one.text("secret"), one.place("secret")).within(*home.parts),
            name(one.text("integration"), one.place("integration"), 1),
        )
    return found


def _has_mlflow(section: Section) -> bool:
    """Return whether the pipelines use MLflow: kedro-snowflake's section without a name does not."""
    mlflow = section.section(MLFLOW_SECTION).content
    return section.content.get(MLFLOW_SECTION) is not None and (
        mlflow.get("experiment_name") is not None or "experiment_name" not in mlflow
    )


def _one(places: list[Section], key: str) -> str:
    for place in places:
        if place.content.get(key) is not None:
            return name(place.text(key), place.place(key), 1).object
    return name(places[0].text(key), places[0].place(key), 1).object


def _names(section: Section, runtime: Section) -> dict[str, str]:
    key = "pipeline_name_mapping"
    place = section if section.content.get(key) is not None else runtime
    mapping = place.section(key)
    return {one: mapping.text(one) for one in mapping.content}


def _packages(
    section: Section, runtime: Section, repository: str, *, with_mlflow: bool
) -> tuple[str, ...]:
    given = section.content.get("packages")
    dependencies = runtime.section("dependencies")
    if given is None and dependencies.content.get("packages") is not None:
        given = dependencies.content.get("packages")
        # Modules that kedro-snowflake copied from the environment; this package installs them as
        # packages.
        copied = dependencies.content.get("imports") or []
        if isinstance(given, list) and isinstance(copied, list) and "kedro_datasets" in copied:
            given = [*given, "kedro-datasets"]
    given = given or []
    if not isinstance(given, list) or not all(isinstance(one, str) and one for one in given):
        raise section.invalid("packages", f"is {given!r}, not a list of requirements")
    named = {_project(one) for one in given}
    added = [one for one in _NEEDED if one not in named]
    if with_mlflow and not named & {"mlflow", _MLFLOW}:
        added.append(_MLFLOW)
    return _pinned(section, (*added, *given), repository)


def _project(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


def _pinned(section: Section, requirements: tuple[str, ...], repository: str) -> tuple[str, ...]:
    """Pin each bare requirement to the installed version, so that both sides run the same code."""
    found, unknown = [], []
    for requirement in requirements:
        # Snowflake's channel is about one version of Snowpark behind, so it may lack a pinned
        # version.
        if (repository == "anaconda" and requirement == _NEEDED[0]) or not re.fullmatch(
            r"[\w.-]+(\[[\w.,\s-]*\])?", requirement
        ):
            found.append(requirement)
        else:
            try:
                version = metadata.version(_project(requirement)).partition("+")[0]
            except metadata.PackageNotFoundError:
                unknown.append(requirement)
            else:
                found.append(f"{requirement}=={version}")
    if unknown:
        raise section.invalid(
            "packages",
            f"has no version for {', '.join(unknown)}, which {'is' if len(unknown) == 1 else 'are'} "
            f"not installed here: install {'it' if len(unknown) == 1 else 'them'}, or write "
            f"{unknown[0]}==<version>",
        )
    return tuple(found)


def _python(section: Section) -> str:
    python = section.text("python", f"{sys.version_info.major}.{sys.version_info.minor}")
    match = re.fullmatch(r"3\.(\d{1,2})", python)
    if not match or int(match[1]) < _OLDEST_PYTHON:
        raise section.invalid(
            "python", f"is {python!r}, not a version from 3.{_OLDEST_PYTHON} on such as '3.11'"
        )
    return python


def _number(section: Section, key: str, least: int, most: int) -> int | None:
    value = section.content.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise section.invalid(key, f"is {value!r}, not a number from {least} to {most}")
    return value


@dataclass(frozen=True)
class Step:
    """A node's task.

    Attributes:
        node: The node.
        task: Its task.
        after: The tasks that must succeed before it.
    """

    node: str
    task: Identifier
    after: tuple[Identifier, ...]


@dataclass(frozen=True)
class Plan:
    """A pipeline's tasks.

    Attributes:
        settings: The project's settings.
        package: The project's package.
        pipeline: The pipeline's name.
        env: The environment whose configuration it runs with.
        params: Parameters that override the configuration.
        root: The root task.
        steps: The nodes' tasks, each after its dependencies.
    """

    settings: Settings
    package: str
    pipeline: str
    env: str
    params: Mapping[str, Any] = field(hash=False)
    root: Identifier
    steps: tuple[Step, ...]

    @property
    def mlflow(self) -> Identifier:
        """The task that creates the MLflow run."""
        return suffixed(self.root, MLFLOW)

    @property
    def end(self) -> Identifier:
        """The task that always runs last, and ends the MLflow run."""
        return suffixed(self.root, END)

    @property
    def tasks(self) -> dict[str, str]:
        """A label for each task by its name in Snowflake, in order."""
        mlflow = {self.mlflow.object: "MLflow run"} if self.settings.mlflow else {}
        steps = {step.task.object: step.node for step in self.steps}
        return {self.root.object: "start", **mlflow, **steps, self.end.object: "end"}


def plan(
    settings: Settings,
    package: str,
    pipeline: str,
    env: str,
    params: Mapping[str, Any],
    pipelines: "Mapping[str, Pipeline]",
) -> Plan:
    """Plan a pipeline's tasks.

    Raises:
        MissingOptionError: The pipeline does not exist, or has no nodes.
        InvalidOptionError: Snowflake allows no graph of so many tasks.
    """
    if pipeline not in pipelines:
        close = difflib.get_close_matches(pipeline, pipelines, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise MissingOptionError(f"The project has no pipeline named {pipeline!r}.{hint}")
    found = pipelines[pipeline]
    if not found.nodes:
        raise MissingOptionError(
            f"The pipeline {pipeline!r} has no nodes, so there is nothing to run."
        )
    root = root_of(settings.home, package, settings.names.get(pipeline, pipeline))
    first = suffixed(root, MLFLOW) if settings.mlflow else root
    before = found.node_dependencies
    steps = tuple(
        Step(
            node.name,
            below(root, node.name),
            tuple(sorted(below(root, one.name) for one in before[node])) or (first,),
        )
        for node in found.nodes
    )
    _check(steps)
    return Plan(settings, package, pipeline, env, params, root, steps)


def _check(steps: tuple[Step, ...]) -> None:
    children: dict[Identifier, int] = {}
    for step in steps:
        for one in step.after:
            children[one] = children.get(one, 0) + 1
    most = max(len(step.after) for step in steps), max(children.values())
    if len(steps) + 3 > _TASKS or max(most) > _NEIGHBOURS:
        raise InvalidOptionError(
            f"Snowflake allows {_TASKS} tasks in a graph, and {_NEIGHBOURS} before or after one of "
            f"them. This pipeline needs {len(steps) + 3}, {most[0]} and {most[1]}: run a part of "
            "it, as a pipeline of its own."
        )
