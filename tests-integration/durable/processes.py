"""Log to one run from threads, a fork and a spawned process, then end in the way that the command line names."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from importlib import import_module
from typing import Any

import mlflow_connections

mlflow: Any = import_module("mlflow")

STEPS = 20


def log(run_id: str, name: str, client: Any = None) -> None:
    """Log a metric of the name."""
    client = client or mlflow.MlflowClient()
    for step in range(STEPS):
        client.log_metric(run_id, name, float(step), step=step)


def main(experiment: str, end: str, server: str = "") -> None:
    """Log from everywhere, and end without notifying MLflow.

    Args:
        experiment: The name of an experiment.
        end: `exit` or `sigterm`.
        server: The keyword of the server behind durable, if the environment has no URI.
    """
    if server:
        mlflow_connections.use("durable", options={"server": server})
    mlflow.set_experiment(experiment)
    run = mlflow.start_run(run_name=end)
    run_id = run.info.run_id
    # MLflow tries to import pyspark for each client. A fork during that import inherits its lock
    # for ever, with plain MLflow as well.
    client = mlflow.MlflowClient()
    threads = [threading.Thread(target=log, args=(run_id, f"thread_{n}", client)) for n in range(4)]
    for thread in threads:
        thread.start()
    child = os.fork()
    if child == 0:
        log(run_id, "fork", client)
        os._exit(0)
    os.waitpid(child, 0)
    for thread in threads:
        thread.join()
    if end == "exit":
        spawned = multiprocessing.get_context("spawn").Process(target=log, args=(run_id, "spawn"))
        spawned.start()
        spawned.join()
    log(run_id, "main", client)
    sys.stdout.flush()
    if end == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:4])
