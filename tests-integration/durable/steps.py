"""Log a step, then print it, until this process is killed; or start such processes for a test.

With `serve`, each line of the input names an experiment, a run and a file for the output. The
process that logs is forked from one that has imported MLflow and done nothing else, and its ID is
printed.
"""

import os
import signal
import sys
import time
from importlib import import_module
from typing import Any

mlflow: Any = import_module("mlflow")

PAUSE = 0.002
EVERY = 20
"""The interval, in steps, at which a file and a param are logged."""


def main(experiment: str, name: str) -> None:
    """Log for ever."""
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name=f"run {name}"):
        step = 0
        while True:
            mlflow.log_metric("step", float(step), step=step)
            if step % EVERY == 0:
                mlflow.log_text(str(step), f"steps/{step}.txt")
                mlflow.log_param(f"at_{step}", step)
            print(step, flush=True)
            step += 1
            time.sleep(PAUSE)


def serve() -> None:
    """Fork a process for each line of the input."""
    # The processes are not waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        experiment, name, output = line.split("\t")
        if child := os.fork():
            print(child, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with open(output.strip(), "w", encoding="utf-8") as file:  # noqa: PTH123 - of this process alone
            os.dup2(file.fileno(), sys.stdout.fileno())
            main(experiment, name)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        main(*sys.argv[1:3])
