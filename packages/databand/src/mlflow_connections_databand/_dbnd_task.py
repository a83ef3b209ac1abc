"""The dbnd task that this code runs in, if there is one. dbnd is never imported for the question."""

import sys


def current_attempt() -> dict[str, str] | None:
    """Give the ids of the current dbnd task's attempt; None outside of a task."""
    current = sys.modules.get("dbnd._core.current")
    if current is None:
        return None
    task_run = current.try_get_current_task_run()
    if task_run is None:
        return None
    return {
        "run_uid": str(task_run.run.run_uid),
        "task_run_uid": str(task_run.task_run_uid),
        "task_run_attempt_uid": str(task_run.task_run_attempt_uid),
        "task_name": str(task_run.task.task_name),
    }
