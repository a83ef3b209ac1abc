"""MLflow's active runs: the only module of this package that uses private names of MLflow.

Finding active runs does not import MLflow: a process that has not imported it has none. Checked
with MLflow 2.22, 3.5, 3.15 and 3.17.
"""

import sys
from collections.abc import Collection
from typing import Any, NamedTuple

_FLUENT = "mlflow.tracking.fluent"


def active_runs() -> list[str]:
    """Return the IDs of the runs that are active in this thread, the outermost first."""
    return [str(run.info.run_id) for run in _stack()]


def end_active_runs(ids: Collection[str], status: str) -> None:
    """End the innermost active runs of this thread while they are among the given ones.

    Args:
        ids: The IDs of the runs to end.
        status: `FINISHED`, `FAILED` or `KILLED`.

    Raises:
        Exception: MLflow's client could not reach the server. The run is then no longer active.
    """
    while (runs := active_runs()) and runs[-1] in ids:
        sys.modules[_FLUENT].end_run(status)


def end_run(run_id: str, status: str) -> None:
    """End a run of another thread or a child process, unless it has already ended.

    Raises:
        Exception: MLflow's client could not reach the server, or the run does not exist.
    """
    from mlflow import MlflowClient

    client = MlflowClient()
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, status)
    monitors = getattr(sys.modules.get(_FLUENT), "run_id_to_system_metrics_monitor", {})
    monitor = monitors.pop(run_id, None)
    if monitor is not None:
        monitor.finish()


class RunNames(NamedTuple):
    """The names of a run and of its experiment.

    Attributes:
        experiment: The experiment's name.
        run: The run's name; empty if it has none.
    """

    experiment: str
    run: str


def fetch_run_names(run_id: str, tracking_uri: str) -> RunNames | None:
    """Fetch the names of a run and of its experiment, or return None if the request fails."""
    from mlflow import MlflowClient

    try:
        client = MlflowClient(tracking_uri)
        run = client.get_run(run_id)
        experiment = client.get_experiment(run.info.experiment_id)
    except Exception:  # noqa: BLE001 - resuming the run reports it, with MLflow's reason
        return None
    return RunNames(experiment.name, run.info.run_name or "")


def _stack() -> list[Any]:
    variable = getattr(sys.modules.get(_FLUENT), "_active_run_stack", None)
    runs: list[Any] = [] if variable is None else variable.get()
    return runs
