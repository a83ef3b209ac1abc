"""A user's script: it logs several metrics through the connection, one request each."""

import json
import sys

import mlflow_connections


def main(sdk: str, count: int) -> dict[str, int]:
    """Log the metrics, and count those that arrived."""
    mlflow_connections.use("azureml", options={"sdk": sdk})
    import mlflow

    mlflow.set_experiment("many metrics")
    with mlflow.start_run() as run:
        for number in range(count):
            mlflow.log_metric(f"m{number}", number)
    return {"metrics": len(mlflow.MlflowClient().get_run(run.info.run_id).data.metrics)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
