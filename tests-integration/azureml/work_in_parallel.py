"""A user's script: Kedro's ParallelRunner with spawned workers, whose nodes log to the workspace."""

import json
import sys
from pathlib import Path
from typing import Any

import mlflow_connections


def log_one(run_id: str) -> None:
    """Log as a node does, in a worker that has inherited nothing but the environment."""
    import mlflow

    try:
        mlflow.MlflowClient().log_metric(run_id, "one", 1.0)
    except mlflow_connections.ConnectionsError as error:
        Path("one.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")


def log_two(run_id: str) -> None:
    """Be another node: a pipeline of one is no test of a parallel runner."""
    import mlflow

    mlflow.MlflowClient().log_metric(run_id, "two", 2.0)


def main(credentials: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Start a run here, log to it in workers, and read it back here."""
    from kedro.io import MemoryDataset, SharedMemoryDataCatalog
    from kedro.pipeline import node, pipeline
    from kedro.runner import ParallelRunner

    mlflow_connections.use("azureml", credentials, {"sdk": "arm", **options})
    import mlflow

    mlflow.set_experiment("in parallel")
    with mlflow.start_run() as run:
        run_id = run.info.run_id
    nodes = [node(log_one, inputs="run_id", outputs=None, name="one")]
    if options:
        nodes.append(node(log_two, inputs="run_id", outputs=None, name="two"))
    catalog = SharedMemoryDataCatalog({"run_id": MemoryDataset(run_id)})
    ParallelRunner(max_workers=2).run(pipeline(nodes), catalog)
    said = Path("one.txt").read_text(encoding="utf-8") if Path("one.txt").exists() else ""
    return {"said": said, "metrics": mlflow.MlflowClient().get_run(run_id).data.metrics}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]), json.loads(sys.argv[2]))))
