"""How a project's pipelines run in Snowflake: the section `snowflake` of snowflake.yml, checked."""

import difflib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections_snowflake._config import SECTION as MLFLOW_SECTION
from mlflow_connections_snowflake._config import BridgeConfig, read
from mlflow_connections_snowflake._names import Identifier, name, stage
from mlflow_connections_snowflake._section import Section

from ._task_names import END, MLFLOW, below, beside, root_of

if TYPE_CHECKING:
    from kedro.pipeline import Pipeline


SECTION = "snowflake"
PYPI = "snowflake.snowpark.pypi_shared_repository"
"""What Snowflake calls its way to PyPI."""

KEYS = (
    *("database", "schema", "warehouse", "stage", "packages", "repository", "python"),
    *("schedule", "retries", "timeout_minutes", "credentials", MLFLOW_SECTION),
)
_NEEDED = ("snowflake-snowpark-python", "kedro")
# Without it MLflow's client is enough, unless the project asks for all of MLflow.
_MLFLOW = "mlflow-skinny"


@dataclass(frozen=True)
class Settings:
    """Everything that is said once for all pipelines of a project.

    Attributes:
        home: The database and schema of the tasks, the procedures and the stage.
        warehouse: What the tasks run on.
        stage: Takes the code, and the data that travels between nodes.
        packages: Requirements that Snowflake installs for the procedures.
        repository: Where it takes them from; None is for its Anaconda channel.
        python: The version of Python, `3.11` for one.
        schedule: When Snowflake runs a pipeline by itself; empty for never.
        retries: How often Snowflake runs what failed again by itself.
        timeout_minutes: How long a node may take; None leaves it at Snowflake's hour.
        credentials: The entry of credentials.yml to connect with; None if none is named.
        mlflow: The bridge to MLflow; None for pipelines without MLflow.
    """

    home: Identifier
    warehouse: Identifier
    stage: Identifier
    packages: tuple[str, ...]
    repository: Identifier | None
    python: str
    schedule: str
    retries: int
    timeout_minutes: int | None
    credentials: str | None
    mlflow: BridgeConfig | None


def read_settings(content: object, where: str) -> Settings:
    """Check the content of snowflake.yml.

    Args:
        content: What stands under `snowflake`.
        where: The file, for messages.

    Raises:
        InvalidOptionError: Something in it cannot work.
        MissingOptionError: Something required is not in it.
    """
    section = Section({} if content is None else content, SECTION, where)
    section.only(*KEYS)
    home = Identifier(tuple(_one(section, key) for key in ("database", "schema")))
    with_mlflow = section.content.get(MLFLOW_SECTION) is not None
    repository = section.text("repository", PYPI)
    return Settings(
        home,
        Identifier((_one(section, "warehouse"),)),
        stage(section.text("stage", "@KEDRO_PIPELINES"), section.place("stage")).within(
            *home.parts
        ),
        _packages(section, with_mlflow=with_mlflow),
        None
        if repository == "anaconda"
        else name(repository, f"{section.place('repository')} (a repository, or anaconda)"),
        _python(section),
        section.text("schedule", ""),
        _number(section, "retries", 0, 30) or 0,
        _number(section, "timeout_minutes", 1, 7 * 24 * 60),
        section.text("credentials", "") or None,
        _mlflow(section) if with_mlflow else None,
    )


def _mlflow(section: Section) -> BridgeConfig:
    setup = read({SECTION: {MLFLOW_SECTION: section.content[MLFLOW_SECTION]}}, section.where)
    if section.section(MLFLOW_SECTION).content.get("functions") is None:
        raise section.invalid(
            MLFLOW_SECTION,
            "has no functions, and pipelines reach MLflow through external functions alone",
        )
    return setup


def _one(section: Section, key: str) -> str:
    return name(section.text(key), section.place(key), 1).object


def _packages(section: Section, *, with_mlflow: bool) -> tuple[str, ...]:
    given = section.content.get("packages") or []
    if not isinstance(given, list) or not all(isinstance(one, str) and one for one in given):
        raise section.invalid("packages", f"is {given!r}, not a list of requirements")
    named = {re.split(r"[^\w.-]", one, maxsplit=1)[0].lower() for one in given}
    added = [one for one in _NEEDED if one not in named]
    if with_mlflow and not named & {"mlflow", _MLFLOW}:
        added.append(_MLFLOW)
    return (*added, *given)


def _python(section: Section) -> str:
    python = section.text("python", f"{sys.version_info.major}.{sys.version_info.minor}")
    if not re.fullmatch(r"3\.\d{1,2}", python):
        raise section.invalid("python", f"is {python!r}, not a version such as '3.11'")
    return python


def _number(section: Section, key: str, least: int, most: int) -> int | None:
    value = section.content.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise section.invalid(key, f"is {value!r}, not a number from {least} to {most}")
    return value


# https://docs.snowflake.com/en/user-guide/tasks-graphs
_TASKS, _NEIGHBOURS = 1000, 100


@dataclass(frozen=True)
class Step:
    """A node's task.

    Attributes:
        node: The node.
        task: Its task.
        after: The tasks that must have succeeded before.
    """

    node: str
    task: Identifier
    after: tuple[Identifier, ...]


@dataclass(frozen=True)
class Plan:
    """A pipeline's tasks.

    Attributes:
        settings: The project's.
        package: The project's package.
        pipeline: The pipeline's name.
        env: The environment whose configuration it runs with.
        params: Parameters that take precedence over the configuration.
        root: The root task.
        steps: The nodes' tasks, each after those that it needs.
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
        """The task that makes the run."""
        return beside(self.root, MLFLOW)

    @property
    def end(self) -> Identifier:
        """The task that runs last, whatever happened, and ends the run."""
        return beside(self.root, END)

    @property
    def tasks(self) -> dict[str, str]:
        """What each task is to people, by its name in Snowflake, in order."""
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
        MissingOptionError: There is no such pipeline, or no node in it.
        InvalidOptionError: Snowflake takes no graph of so many tasks.
    """
    if pipeline not in pipelines:
        close = difflib.get_close_matches(pipeline, pipelines, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise MissingOptionError(f"The project has no pipeline named {pipeline!r}.{hint}")
    found = pipelines[pipeline]
    if not found.nodes:
        raise MissingOptionError(
            f"The pipeline {pipeline!r} has no nodes: there is nothing to run."
        )
    root = root_of(settings.home, package, pipeline)
    first = beside(root, MLFLOW) if settings.mlflow else root
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
            f"Snowflake takes {_TASKS} tasks in a graph, and {_NEIGHBOURS} before or after one of "
            f"them; this pipeline needs {len(steps) + 3}, {most[0]} and {most[1]}: run a part of "
            "it, as a pipeline of its own."
        )
