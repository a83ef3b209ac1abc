"""A user's script: it logs entities of every kind through the connection and reads them back."""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow_connections


def shout(model_input: list[str]) -> list[str]:
    """Act as a model."""
    return [text.upper() for text in model_input]


def main(sdk: str, has_logged_models: bool) -> dict[str, Any]:
    """Log, read back, and return the values read."""
    applied = mlflow_connections.use("azureml", options={"sdk": sdk})
    was_core_imported = "azureml.core" in sys.modules
    import mlflow

    mlflow.set_experiment(f"through {sdk}")
    with mlflow.start_run() as run:
        mlflow.log_params({"alpha": 1, "beta": "two"})
        mlflow.log_metric("loss", 0.5, step=1)
        mlflow.log_metric("loss", 0.25, step=2)
        mlflow.set_tag("team", "blue")
        mlflow.log_text("a note", "notes/first.txt")
        mlflow.log_text("", "empty.txt")
        mlflow.log_dict({"list": list(range(50_000))}, "large.json")
        model = {"python_model": shout, "pip_requirements": ["mlflow-skinny"]}
        if has_logged_models:
            # MLflow 2 uses this name, and has no logged models.
            name = "artifact_path" if mlflow.__version__.startswith("2.") else "name"
            mlflow.pyfunc.log_model(**{name: "model"}, **model)
        else:
            with TemporaryDirectory() as folder:
                mlflow.pyfunc.save_model(f"{folder}/model", **model)
                mlflow.log_artifacts(f"{folder}/model", "model")

    client = mlflow.MlflowClient()
    read = client.get_run(run.info.run_id)
    uri = read.info.artifact_uri
    name = f"shouter-{sdk}-{run.info.run_id}"
    client.create_registered_model(name)
    source = f"runs:/{run.info.run_id}/model" if has_logged_models else f"{uri}/model"
    version = client.create_model_version(name, source, run.info.run_id)
    client.set_registered_model_alias(name, "best", version.version)
    large = Path(mlflow.artifacts.download_artifacts(f"{uri}/large.json"))
    return {
        "tracking_uri": applied.endpoint.tracking_uri,
        "was_core_imported": was_core_imported,
        "run_id": run.info.run_id,
        "artifact_uri": uri,
        "model_name": name,
        "params": read.data.params,
        "metrics": [m.value for m in client.get_metric_history(run.info.run_id, "loss")],
        "team": read.data.tags["team"],
        "artifacts": sorted(f.path for f in client.list_artifacts(run.info.run_id)),
        "note": mlflow.artifacts.load_text(f"{uri}/notes/first.txt"),
        "empty": mlflow.artifacts.load_text(f"{uri}/empty.txt"),
        "large": len(json.loads(large.read_text())["list"]),
        "said": mlflow.pyfunc.load_model(f"models:/{name}@best").predict(["hello"]),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2] == "with-logged-models")))
