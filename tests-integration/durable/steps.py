"""Log a step, then print it, until somebody kills this process."""

import sys
from importlib import import_module
from typing import Any

mlflow: Any = import_module("mlflow")


def main(experiment: str, name: str) -> None:
    """Log without an end."""
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name=f"run {name}"):
        step = 0
        while True:
            mlflow.log_metric("step", float(step), step=step)
            print(step)
            step += 1


if __name__ == "__main__":
    main(*sys.argv[1:3])
