"""Several ranks that log to one run: this process creates it, children join it by `MLFLOW_RUN_ID`."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

mlflow: Any = import_module("mlflow")

STEPS = 30


def main(experiment: str) -> None:
    """Create a run, log to it from two other processes, end it, and resume it."""
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name="ranks") as run:
        run_id = run.info.run_id
        environment = {**os.environ, "MLFLOW_RUN_ID": run_id}
        children = [
            subprocess.Popen([sys.executable, __file__, "rank", str(rank)], env=environment)
            for rank in (1, 2)
        ]
        log(0)
        assert [child.wait() for child in children] == [0, 0]
    with mlflow.start_run(run_id=run_id):
        mlflow.log_metric("resumed", 1.0)
    subprocess.run([sys.executable, __file__, "resume", run_id], check=True)
    print(run_id)


def log(rank: int) -> None:
    """Log a metric, a param and a file of a rank."""
    for step in range(STEPS):
        mlflow.log_metric(f"loss_{rank}", float(step), step=step)
    mlflow.log_param(f"rank_{rank}", rank)
    mlflow.log_text(f"rank {rank}", f"rank_{rank}.txt")


if __name__ == "__main__":
    if sys.argv[1] == "rank":
        with mlflow.start_run():
            log(int(sys.argv[2]))
    elif sys.argv[1] == "resume":
        with mlflow.start_run(run_id=sys.argv[2]):
            mlflow.log_metric("resumed_elsewhere", 2.0)
            assert Path(__file__).exists()
    else:
        main(sys.argv[1])
