"""What the run of one node in Snowflake adds to Kedro's: data on the stage, parameters in MLflow."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from ._data import StagePickle, is_parameter, travels
from ._graph import Graph

if TYPE_CHECKING:
    from kedro.pipeline.node import Node

# What MLflow takes: mlflow.utils.validation.
_LONGEST, _NOT_IN_KEYS = 6000, re.compile(r"[^\w\-. :/]")
_AT_ONCE = 100


class NodeHooks:
    """Registered for one node's session.

    Args:
        graph: The run of the graph.
        datasets: The node's inputs and outputs.
    """

    def __init__(self, graph: Graph, datasets: list[str]) -> None:
        self._graph = graph
        self._datasets = datasets

    @hook_impl(trylast=True)
    def after_catalog_created(self, catalog: Any) -> None:
        """Let what Kedro would hold in memory come from the stage, and go there."""
        for dataset in self._datasets:
            if travels(catalog, dataset):
                catalog[dataset] = StagePickle(self._graph.session, self._graph.data, dataset)

    @hook_impl
    def before_node_run(self, node: "Node", inputs: Mapping[str, Any]) -> None:
        """Log the node's parameters, nested ones by dotted keys."""
        if not self._graph.mlflow:
            return
        import mlflow

        found: dict[str, Any] = {}
        for name in node.inputs:
            if is_parameter(name):
                found.update(_flat(name.removeprefix("params:"), inputs.get(name)))
        pairs = list(found.items())
        for first in range(0, len(pairs), _AT_ONCE):
            mlflow.log_params(dict(pairs[first : first + _AT_ONCE]))


def _flat(key: str, value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        before = "" if key == "parameters" else f"{key}."
        return {
            k: v for inner, one in value.items() for k, v in _flat(f"{before}{inner}", one).items()
        }
    return {_NOT_IN_KEYS.sub("_", key): str(value)[:_LONGEST]}
