"""Log every kind of entity to the experiment that the command line names."""

import math
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

# No MLflow version has all attributes of another.
mlflow: Any = import_module("mlflow")

STEPS = 60


def main(experiment: str, pause: float) -> None:
    """Log a parent, a child, a run that fails and one that is deleted."""
    longest = 0.0

    def timed(call: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal longest
        begun = time.monotonic()
        result = call(*args, **kwargs)
        longest = max(longest, time.monotonic() - begun)
        return result

    timed(mlflow.set_experiment, experiment)
    mlflow.set_experiment_tag("team", "wine")
    data = Path("data")
    (data / "deep").mkdir(parents=True, exist_ok=True)
    (data / "one.bin").write_bytes(b"\x00\xff")
    (data / "deep" / "two.txt").write_text("two")
    with timed(mlflow.start_run, run_name="parent", description="A run.") as run:
        mlflow.log_params({"alpha": 0.5, "long": "x" * 5_500})
        mlflow.log_metrics({"nan": math.nan, "infinite": math.inf, "big": 10**16}, step=7)
        for step in range(STEPS):
            timed(mlflow.log_metric, "loss", 1 / (step + 1), step=step)
            time.sleep(pause)
        mlflow.set_tags({"a": "1", "b": "2", "text": "naïve ☃"})
        mlflow.delete_tag("b")
        timed(mlflow.log_text, "hello", "notes/hello.txt")
        timed(mlflow.log_artifacts, str(data), "folder")
        (data / "one.bin").write_bytes(b"changed afterwards")
        with timed(mlflow.start_run, run_name="child", nested=True):
            mlflow.log_metric("loss", 1.0)
        mlflow.set_tag("id", run.info.run_id)
        assert mlflow.get_run(run.info.run_id).data.metrics["loss"] == 1 / STEPS
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes/hello.txt") == "hello"
        assert len(mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")) == STEPS
    try:
        with mlflow.start_run(run_name="fails"):
            _ = 1 / 0
    except ZeroDivisionError:
        pass
    client = mlflow.MlflowClient()
    deleted = client.create_run(run.info.experiment_id, run_name="deleted")
    client.delete_run(deleted.info.run_id)
    print(run.info.run_id)
    print(f"{longest:.3f}")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
