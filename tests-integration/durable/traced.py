"""Trace nested calls inside and outside of a run, and assess one of the traces."""

import sys
from importlib import import_module
from typing import Any

mlflow: Any = import_module("mlflow")


@mlflow.trace  # type: ignore[untyped-decorator,unused-ignore]  # of no known type
def inner(x: int) -> int:
    """Return a number, recorded as a span."""
    return x + 1


@mlflow.trace  # type: ignore[untyped-decorator,unused-ignore]  # of no known type
def outer(x: int) -> int:
    """Call another traced function."""
    return int(inner(x)) * 2


def main(experiment: str) -> None:
    """Log two traces, a tag and an assessment."""
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name="traced"):
        outer(1)
    outer(2)
    mlflow.flush_trace_async_logging()
    trace_id = mlflow.get_last_active_trace_id()
    client = mlflow.MlflowClient()
    client.set_trace_tag(trace_id, "checked", "yes")
    mlflow.log_feedback(trace_id=trace_id, name="good", value=True, rationale="As expected.")
    print(trace_id)


if __name__ == "__main__":
    main(sys.argv[1])
