"""A user's script: it logs to AzureML through durable, and prints whether its run has an ID of the workspace."""

import json
import os
import sys

import mlflow_connections


def main(experiment: str, server: str = "azureml") -> dict[str, str]:
    """Log a parent, a child and files, in a process that never waits for the workspace."""
    with mlflow_connections.use("durable", {}, {"server": server}):
        import mlflow

        mlflow.set_experiment(experiment)
        with mlflow.start_run(run_name="parent") as run:
            mlflow.log_param("alpha", 1)
            for step in range(20):
                mlflow.log_metric("loss", 1 / (step + 1), step=step)
            mlflow.log_text("a note", "note.txt")
            with mlflow.start_run(run_name="child", nested=True):
                mlflow.log_metric("loss", 2.0)
        return {
            "tracking_uri": mlflow.get_tracking_uri(),
            "run_id": run.info.run_id,
            "artifact_uri": run.info.artifact_uri,
            "note": mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt"),
            "pid": str(os.getpid()),
        }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
