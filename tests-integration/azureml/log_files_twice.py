"""A user's script: it logs two files to AzureML through durable, each of them twice."""

import json
import sys

import mlflow_connections


def main(experiment: str) -> dict[str, str]:
    """Log a file twice with the same content, and one with another content the second time."""
    with mlflow_connections.use("durable", {}, {"server": "azureml"}):
        import mlflow

        mlflow.set_experiment(experiment)
        with mlflow.start_run() as run:
            for content in ("first", "second"):
                mlflow.log_text("a note", "notes/same.txt")
                mlflow.log_text(content, "other.txt")
        return {"run_id": run.info.run_id}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
