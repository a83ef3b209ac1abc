"""A user's script in an AzureML job, where a tracking URI is already set."""

import json
from typing import Any

import mlflow_connections


def main() -> dict[str, Any]:
    """Log to the job's own run."""
    endpoint = mlflow_connections.use("azureml").endpoint
    import mlflow

    # MLFLOW_RUN_ID makes this the job's run.
    with mlflow.start_run() as run:
        mlflow.log_metric("from_job", 1.0)
        mlflow.log_text("a note of the job", "job.txt")
    return {
        "run_id": run.info.run_id,
        "tracking_uri": endpoint.tracking_uri,
        "environment": dict(endpoint.environment),
        "metrics": mlflow.MlflowClient().get_run(run.info.run_id).data.metrics,
    }


if __name__ == "__main__":
    print(json.dumps(main()))
