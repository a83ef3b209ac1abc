"""Log a file or a folder, a value and a text in one run."""

import sys
from pathlib import Path

import mlflow


def main(experiment: str, path: str) -> None:
    """Log a folder under its own name."""
    mlflow.set_experiment(experiment)
    with mlflow.start_run():
        if Path(path).is_dir():
            mlflow.log_artifacts(path, Path(path).name)
        else:
            mlflow.log_artifact(path)
        mlflow.log_metric("loss", 1.0, step=0)
        mlflow.log_text("hello", "hello.txt")


if __name__ == "__main__":
    main(*sys.argv[1:])
