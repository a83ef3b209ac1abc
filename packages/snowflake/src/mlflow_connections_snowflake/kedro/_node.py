"""Runs one node of the project in a real Kedro session, inside a procedure."""

import atexit
import inspect
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ._archive import PROJECT
from ._graph import Graph


def run(graph: Graph, name: str) -> None:
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

    from ._hooks import NodeHooks

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
