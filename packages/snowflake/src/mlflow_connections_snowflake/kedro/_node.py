"""Runs one node of the project in a real Kedro session, inside a procedure."""

import atexit
import inspect
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from ._code import PROJECT
from ._data import StagePickle, is_parameter, travels
from ._task import TaskContext

if TYPE_CHECKING:
    from kedro.pipeline.node import Node


def run(graph: TaskContext, name: str) -> None:
    """Run a node: its hooks run, and its inputs and outputs are the catalog's.

    Raises:
        Exception: Whatever the node, a dataset or a hook raises.
    """
    # There is no network here for what Kedro's telemetry has to say.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from kedro.framework.project import pipelines
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project
    from kedro.runner import SequentialRunner

    with _unpacked() as folder:
        bootstrap_project(folder)
        [node] = pipelines[graph.pipeline].filter(node_names=[name]).nodes
        session: Any = KedroSession.create(
            project_path=folder, env=graph.env, runtime_params=graph.params, save_on_close=False
        )
        session._hook_manager.register(NodeHooks(graph, [*node.inputs, *node.outputs]))
        # Kedro 1.0 takes one name, later ones a list.
        several = "pipeline_names" in inspect.signature(session.run).parameters
        which: dict[str, Any] = (
            {"pipeline_names": [graph.pipeline]} if several else {"pipeline_name": graph.pipeline}
        )
        # In this thread: MLflow's active run is one thread's, and so is Snowpark's session.
        session.run(**which, node_names=[name], runner=SequentialRunner())
        session.close()


@contextmanager
def _unpacked() -> Iterator[Path]:
    """Unpack the project, and be in its folder as `kedro run` is.

    It stays until Python ends: the traceback of an error quotes its files.
    """
    # https://docs.snowflake.com/en/developer-guide/stored-procedure/python/procedure-python-writing
    archive = Path(sys._xoptions["snowflake_import_directory"]) / PROJECT
    folder, before = Path(tempfile.mkdtemp(prefix="kedro-")), Path.cwd()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)


# What MLflow takes: mlflow.utils.validation.
_LONGEST, _NOT_IN_KEYS = 6000, re.compile(r"[^\w\-. :/]")
_AT_ONCE = 100


class NodeHooks:
    """Registered for one node's session.

    Args:
        graph: The run of the graph.
        datasets: The node's inputs and outputs.
    """

    def __init__(self, graph: TaskContext, datasets: list[str]) -> None:
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
