"""A user's script: it logs to AzureML, and Databand gets a copy."""

import json
import os

import mlflow_connections


def main() -> dict[str, str]:
    """Log, and return the resulting tracking URI and run."""
    workspace = mlflow_connections.use("azureml", options={"sdk": "arm"}).endpoint.tracking_uri
    with mlflow_connections.use(
        "databand",
        {"access_token": os.environ["MY_DATABAND_TOKEN"]},
        {"databand_url": os.environ["MY_DATABAND"], "duplicate_tracking_to": workspace},
    ):
        import mlflow

        mlflow.set_experiment("copied")
        with mlflow.start_run(run_name="copied") as run:
            mlflow.log_param("alpha", 1)
            mlflow.log_metric("loss", 0.5, step=1)
            mlflow.log_text("a note", "note.txt")
        return {
            "workspace": workspace,
            "tracking_uri": mlflow.get_tracking_uri(),
            "run_id": run.info.run_id,
            "note": mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt"),
        }


if __name__ == "__main__":
    print(json.dumps(main()))
