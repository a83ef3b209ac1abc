"""Kedro's ParallelRunner with spawned workers, whose nodes log to a server behind tokens: prints the run's ID."""

import os

import mlflow
from kedro.io import MemoryDataset, SharedMemoryDataCatalog
from kedro.pipeline import node, pipeline
from kedro.runner import ParallelRunner

from mlflow_connections import use

SECRET = "MLFLOW_CONNECTIONS_HTTP_CLIENT_SECRET"


def log(run_id: str) -> None:
    """Log as a node does, and record whether its process has the secret."""
    client = mlflow.MlflowClient()
    client.log_metric(run_id, "nodes", 1.0)
    client.set_tag(run_id, f"has_secret_{os.getpid()}", str(SECRET in os.environ))


def main() -> None:
    """Start a run in this process and log to it in workers."""
    secret = os.environ.pop(SECRET)
    with use("http", {"client_secret": secret}):
        mlflow.set_experiment("in-parallel")
        with mlflow.start_run() as run:
            nodes = [node(log, inputs="run_id", outputs=None, name=name) for name in ("one", "two")]
            catalog = SharedMemoryDataCatalog({"run_id": MemoryDataset(run.info.run_id)})
            ParallelRunner(max_workers=2).run(pipeline(nodes), catalog)
    print(run.info.run_id)


if __name__ == "__main__":
    main()
