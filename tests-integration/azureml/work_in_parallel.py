"""A user's script: Kedro's ParallelRunner with spawned workers, whose nodes log to the workspace."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import mlflow_connections


def log_one(run_id: str) -> None:
    """Log as a node does, in a worker that has inherited only the environment."""
    import mlflow

    mlflow.MlflowClient().log_metric(run_id, "one", 1.0)
    Path("one.json").write_text(json.dumps(dict(os.environ)), encoding="utf-8")


def log_two(run_id: str) -> None:
    """Act as another node: a pipeline of one node does not test a parallel runner."""
    import mlflow

    mlflow.MlflowClient().log_metric(run_id, "two", 2.0)


def main(credentials: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Start a run in this process, log to it in workers, and read it back."""
    from kedro.io import MemoryDataset, SharedMemoryDataCatalog
    from kedro.pipeline import node, pipeline
    from kedro.runner import ParallelRunner

    mlflow_connections.use("azureml", credentials, {"sdk": "arm", **options})
    import mlflow

    mlflow.set_experiment("in parallel")
    with mlflow.start_run() as run:
        run_id = run.info.run_id
    nodes = [
        node(log_one, inputs="run_id", outputs=None, name="one"),
        node(log_two, inputs="run_id", outputs=None, name="two"),
    ]
    catalog = SharedMemoryDataCatalog({"run_id": MemoryDataset(run_id)})
    ParallelRunner(max_workers=2).run(pipeline(nodes), catalog)
    return {
        "is_secret_in_worker": credentials["client_secret"] in Path("one.json").read_text(),
        "metrics": mlflow.MlflowClient().get_run(run_id).data.metrics,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]), json.loads(sys.argv[2]))))
