"""A user's script: it logs to one server, with a mirror for a second one or without, what the server can take."""

import json
import sys
from contextlib import suppress

import mlflow_connections


def shout(model_input: list[str]) -> list[str]:
    """Act as a model."""
    return [text.upper() for text in model_input]


def main(primary: str, copy: str, experiment: str) -> dict[str, str]:
    """Log runs with files, a version, and what AzureML does not have, unless the server refuses it at once."""
    options = {"primary": primary, "copy": copy} if copy else {}
    with mlflow_connections.use("mirror" if copy else primary, {}, options):
        import mlflow

        mlflow.set_experiment(experiment)
        with mlflow.start_run(run_name="parent") as run:
            mlflow.log_params({"alpha": 0.5, "solver": "saga"})
            for step in range(20):
                mlflow.log_metric("loss", 1 / (step + 1), step=step)
            mlflow.set_tag("team", "red")
            mlflow.log_text("a note", "note.txt")
            mlflow.log_dict({"a": 1}, "folder/deep/data.json")
            mlflow.log_text("weights", "model/weights.txt")
            with mlflow.start_run(run_name="child", nested=True):
                mlflow.log_metric("loss", 2.0)
        client = mlflow.MlflowClient()
        client.create_registered_model(experiment, {"kind": "red"})
        source = f"{run.info.artifact_uri}/model"
        client.create_model_version(experiment, source, run.info.run_id, {"checked": "yes"})
        if not mlflow.__version__.startswith("2."):
            with mlflow.start_run(run_name="modelled"):
                mlflow.log_metric("before", 1.0)
                # AzureML refuses a logged model at once.
                with suppress(mlflow.MlflowException):
                    mlflow.pyfunc.log_model(
                        name="model", python_model=shout, pip_requirements=["mlflow-skinny"]
                    )
                mlflow.log_metric("after", 2.0)
                with suppress(mlflow.MlflowException), mlflow.start_span("traced"):
                    pass
                mlflow.flush_trace_async_logging(terminate=True)
        return {
            "tracking_uri": mlflow.get_tracking_uri(),
            "run_id": run.info.run_id,
            "note": mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt"),
        }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
