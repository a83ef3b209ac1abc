"""A user's script: it logs a model to AzureML as MLflow 3 does, and goes on, whatever becomes of the model."""

import json
import sys

import mlflow_connections


def shout(model_input: list[str]) -> list[str]:
    """Act as a model."""
    return [text.upper() for text in model_input]


def log(keyword: str, options: dict[str, str], experiment: str) -> str | None:
    """Log a metric before and after a model, and return the error of the model."""
    with mlflow_connections.use(keyword, {}, options):
        import mlflow

        mlflow.set_experiment(experiment)
        error = None
        with mlflow.start_run(run_name=keyword):
            mlflow.log_metric("before", 1.0)
            try:
                mlflow.pyfunc.log_model(
                    name="model", python_model=shout, pip_requirements=["mlflow-skinny"]
                )
            except mlflow.MlflowException as raised:
                error = f"{raised.error_code}: {raised.message}"
            mlflow.log_metric("after", 2.0)
            mlflow.log_text("a note", "note.txt")
        return error


def main(experiment: str, mode: str = "up") -> dict[str, str | None]:
    """Log through durable, and without it as well if the workspace is up."""
    plain = {} if mode == "down" else {"plain": log("azureml", {}, experiment)}
    return {**plain, "durable": log("durable", {"server": "azureml"}, experiment)}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
