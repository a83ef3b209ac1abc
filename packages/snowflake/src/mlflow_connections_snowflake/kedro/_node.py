"""Run one node of the project in a real Kedro session, inside a procedure."""

import atexit
import inspect
import json
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

from ._data import TravelingDataset, catalog_inside, is_parameter, read_secret, travels
from ._task import TaskContext
from ._task_names import PLACES_FILE, PROJECT_ARCHIVE

if TYPE_CHECKING:
    from kedro.pipeline.node import Node

# MLflow's limits: mlflow.utils.validation.
_LONGEST, _NOT_IN_KEYS = 6000, re.compile(r"[^\w\-. :/]")
_AT_ONCE = 100


def run(task: TaskContext, name: str) -> None:
    """Run a node with the project's hooks and the catalog's datasets.

    Raises:
        Exception: The error of the node, a dataset or a hook.
    """
    # Kedro's telemetry has no network.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from kedro.framework.project import pipelines
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project
    from kedro.runner import SequentialRunner

    with _unpacked() as folder:
        bootstrap_project(folder)
        [node] = pipelines[task.pipeline].filter(node_names=[name]).nodes
        session: Any = KedroSession.create(
            project_path=folder, env=task.env, runtime_params=task.params, save_on_close=False
        )
        places = json.loads((folder / PLACES_FILE).read_text(encoding="utf-8"))
        session._hook_manager.register(NodeHooks(task, [*node.inputs, *node.outputs], places))
        # Kedro 1.0 takes one name, later versions a list.
        several = "pipeline_names" in inspect.signature(session.run).parameters
        which: dict[str, Any] = (
            {"pipeline_names": [task.pipeline]} if several else {"pipeline_name": task.pipeline}
        )
        # Run in this thread: MLflow's active run belongs to a thread, and so does Snowpark's
        # session.
        session.run(**which, node_names=[name], runner=SequentialRunner())
        session.close()


class NodeHooks:
    """The hooks of one node's session: data on the stage, parameters in MLflow.

    Args:
        task: The run of the graph.
        datasets: The node's inputs and outputs.
        places: The replacements of datasets' credentials, from `places_of`.
    """

    def __init__(
        self, task: TaskContext, datasets: list[str], places: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._task = task
        self._datasets = datasets
        self._places = places

    @hook_impl(trylast=True)
    def after_context_created(self, context: Any) -> None:
        """Reduce the catalog to the node's entries, without credentials that stay on the user's machine."""
        loader = context.config_loader
        try:
            conf = dict(loader["catalog"])
        except Exception:  # noqa: BLE001 - a project without a catalog
            return
        loader["catalog"] = catalog_inside(conf, self._datasets, self._places, read_secret)

    @hook_impl(trylast=True)
    def after_catalog_created(self, catalog: Any) -> None:
        """Use the stage for data that Kedro would keep in memory."""
        for dataset in self._datasets:
            if travels(catalog, dataset):
                catalog[dataset] = TravelingDataset(self._task, dataset)

    @hook_impl
    def before_node_run(self, node: "Node", inputs: Mapping[str, Any]) -> None:
        """Log the node's parameters, nested ones by dotted keys."""
        if not self._task.mlflow:
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


@contextmanager
def _unpacked() -> Iterator[Path]:
    """Unpack the project and change into its folder, as `kedro run` does.

    The folder stays until Python ends: the traceback of an error quotes its files.
    """
    # https://docs.snowflake.com/en/developer-guide/stored-procedure/python/procedure-python-writing
    archive = Path(sys._xoptions["snowflake_import_directory"]) / PROJECT_ARCHIVE
    folder, before = Path(tempfile.mkdtemp(prefix="kedro-")), Path.cwd()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)
