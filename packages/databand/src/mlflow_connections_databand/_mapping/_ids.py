"""Every id that Databand needs, derived from MLflow's run id: sending twice changes nothing."""

from typing import NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

_NAMESPACE = uuid5(NAMESPACE_URL, "https://pypi.org/project/mlflow-connections-databand")


class Ids(NamedTuple):
    """The ids of one Databand run with its one task.

    Attributes:
        run: The run.
        task_run: Its task.
        attempt: The task's one attempt, which metrics belong to.
        env: The description of where it ran.
    """

    run: str
    task_run: str
    attempt: str
    env: str


def ids_of(run_id: str) -> Ids:
    """Derive the ids of a run. MLflow's own run ids are UUIDs; those of other backends are hashed."""
    try:
        run = UUID(hex=run_id)
    except ValueError:
        run = uuid5(_NAMESPACE, run_id)
    return Ids(
        str(run), *(str(uuid5(run, part)) for part in ("task_run", "task_run_attempt", "env"))
    )


def definition_of(job: str) -> str:
    """Derive the id of the task definition that all runs of a job share."""
    return str(uuid5(_NAMESPACE, f"job:{job}"))
