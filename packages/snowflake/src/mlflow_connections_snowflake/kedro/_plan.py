"""Which tasks a pipeline becomes: one for each node, in the order of the data."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow_connections import InvalidOptionError, MissingOptionError
from mlflow_connections_snowflake._names import Name

from ._names import END, MLFLOW, below, beside, root_of
from ._settings import Settings

if TYPE_CHECKING:
    from kedro.pipeline import Pipeline

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
    task: Name
    after: tuple[Name, ...]


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
    root: Name
    steps: tuple[Step, ...]

    @property
    def mlflow(self) -> Name:
        """The task that makes the run."""
        return beside(self.root, MLFLOW)

    @property
    def end(self) -> Name:
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
    children: dict[Name, int] = {}
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
