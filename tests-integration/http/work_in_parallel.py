"""Log to one run from spawned workers, after the inherited token was revoked: prints the run's ID."""

import multiprocessing
import os

import mlflow

from mlflow_connections import use
from mlflow_connections.authentication import DESCRIPTION_VARIABLE

SECRET = "MLFLOW_CONNECTIONS_HTTP_CLIENT_SECRET"


def log(run_id: str, step: int) -> bool:
    """Log one metric, and return whether this process has the secret."""
    mlflow.MlflowClient().log_metric(run_id, "worker", float(step), step=step)
    return SECRET in os.environ


def main() -> None:
    """Remove the secret from the environment, like a program that read it from elsewhere."""
    secret = os.environ.pop(SECRET)
    with use("http", {"client_secret": secret}):
        mlflow.set_experiment("behind-tokens")
        assert secret not in os.environ[DESCRIPTION_VARIABLE]
        with mlflow.start_run() as run, multiprocessing.get_context("spawn").Pool(2) as pool:
            had = pool.starmap(log, [(run.info.run_id, step) for step in range(4)])
        assert not any(had)
    print(run.info.run_id)


if __name__ == "__main__":
    main()
