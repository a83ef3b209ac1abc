"""Train with the stand for several lifetimes of a token: `python work.py here|workers FOLDER` prints the run's ID.

`workers` trains in spawned workers, whose environment contains no secret.
"""

import multiprocessing
import os
import sys
import time
from pathlib import Path

import mlflow
from mlflow.artifacts import download_artifacts

from mlflow_connections import use

SECRET = "MLFLOW_CONNECTIONS_HTTP_CLIENT_SECRET"
STEPS, PAUSE = 26, 1.0  # the lifetime of a token is seven to eight seconds
LARGE = 30_000_000  # bytes


def train(folder: Path) -> str:
    """Log metrics, 30 MB, a registered model and a trace, read them back, and return the run's ID."""
    folder.mkdir(parents=True)
    large = folder / "large.bin"
    large.write_bytes(os.urandom(LARGE))
    mlflow.set_experiment("stand")
    with mlflow.start_run() as run:
        run_id: str = run.info.run_id
        for step in range(STEPS):
            mlflow.log_metric("m", float(step), step=step)
            time.sleep(PAUSE)
        mlflow.log_artifact(str(large))
        mlflow.log_text("small", "small.txt")
        mlflow.set_tag("has_secret", str(SECRET in os.environ))
    client = mlflow.MlflowClient()
    client.create_registered_model(f"model-{run_id}")
    client.create_model_version(f"model-{run_id}", f"runs:/{run_id}/small.txt", run_id)
    with mlflow.start_span("step") as span:
        span.set_inputs({"run": run_id})
    if flush := getattr(mlflow, "flush_trace_async_logging", None):
        flush()
    again = download_artifacts(
        run_id=run_id, artifact_path="large.bin", dst_path=str(folder / "again")
    )
    if Path(again).read_bytes() != large.read_bytes():
        raise AssertionError("the artifact came back different")
    return run_id


def main(place: str, folder: Path) -> None:
    """Train in this process, or in two spawned workers."""
    if place == "here":
        print(train(folder))
        return
    # Like a program that read it from elsewhere.
    secret = os.environ.pop(SECRET)
    with use("http", {"client_secret": secret}):
        mlflow.set_experiment("stand")
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            print(*pool.map(train, [folder / "first", folder / "second"]), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
