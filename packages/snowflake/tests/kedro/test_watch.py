"""The display of a run: a line for each change, and the relevant error at the end."""

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from rich.console import Console

from mlflow_connections_snowflake.kedro._plan import Plan
from mlflow_connections_snowflake.kedro._watch import (
    Progress,
    TaskRun,
    Watch,
    command,
    failure,
    has_succeeded,
    retry_hint,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


def run(
    plan: Plan, node: str, state: str, attempt: int = 1, error: str = "", seconds: int = 3
) -> TaskRun:
    """Return a run of a node's task."""
    task = next(task for task, name in plan.tasks.items() if name == node)
    ended = state in {"SUCCEEDED", "FAILED"}
    completed = NOON + timedelta(seconds=seconds) if ended else None
    return TaskRun(task, state, NOON, completed, error, "", ("group", attempt))


def states(*runs: TaskRun) -> dict[str, TaskRun]:
    """Return runs by their task."""
    return {one.task: one for one in runs}


def test_one_line_for_each_change(planned: Callable[..., Plan]) -> None:
    """Without a terminal a task's line appears when its state changes, and a name is never markup."""
    plan, left = planned(), "[b]left[/b]"
    steps = tuple(replace(s, node=left) if s.node == "left" else s for s in plan.steps)
    plan = replace(plan, steps=steps)
    out = io.StringIO()
    progress = Progress(plan, Console(file=out, width=200))
    progress.follow(
        [
            states(run(plan, "load", "EXECUTING")),
            states(run(plan, "load", "EXECUTING")),
            states(run(plan, "load", "SUCCEEDED"), run(plan, left, "SCHEDULED")),
            states(run(plan, "load", "SUCCEEDED"), run(plan, left, "FAILED", error="e")),
            states(run(plan, left, "SUCCEEDED", attempt=2), run(plan, "join", "SKIPPED")),
        ]
    )
    assert [" ".join(line.split()) for line in out.getvalue().splitlines()] == [
        "running load",
        "done load 3.0 s",
        "FAILED [b]left[/b] 3.0 s",
        "done [b]left[/b] 3.0 s (try 2)",
        "skipped join",
    ]


def test_a_terminal_shows_every_task_all_the_time(planned: Callable[..., Plan]) -> None:
    """On a terminal the lines are updated in place, including those of waiting tasks."""
    plan = planned()
    out = io.StringIO()
    progress = Progress(plan, Console(file=out, width=200, force_terminal=True, color_system=None))
    progress.follow([{}, states(run(plan, "load", "SUCCEEDED"))])
    last = out.getvalue().rpartition("start")[2]
    assert [word in last for word in ("load", "left", "right", "join", "end")] == [True] * 5
    assert "3.0 s" in last


ERROR = """Python Interpreter Error:
Traceback (most recent call last):
  File "/tmp/kedro/runner/task.py", line 1, in run
    frames of Kedro
  File "/tmp/kedro-x/src/wine/nodes.py", line 9, in train
    raise ValueError("no")
ValueError: no
 in function WINE__DEFAULT__RUN_NODE with handler run_node"""


def test_the_error_is_the_nodes_own(planned: Callable[..., Plan]) -> None:
    """A traceback is shown from the project's code on, with the node and its task."""
    plan = planned()
    told = failure(plan, states(run(plan, "load", "FAILED", error=ERROR)))
    assert "'load' failed, the task DEMO.PIPES.WINE__DEFAULT__LOAD" in told
    assert told.endswith('    raise ValueError("no")\n  ValueError: no')
    assert "frames of Kedro" not in told


def test_a_task_that_ended_without_an_error_is_reported(planned: Callable[..., Plan]) -> None:
    """A task that somebody cancelled has no error, and is named nevertheless."""
    plan = planned()
    runs = states(run(plan, "start", "SUCCEEDED"), run(plan, "load", "CANCELLED"))
    assert failure(plan, runs) == "Not every task succeeded: 'load' (cancelled)."


def test_commands_are_of_the_same_pipeline(planned: Callable[..., Plan]) -> None:
    """The suggested next command names the pipeline and the environment of this run."""
    plan = planned()
    assert command(plan, "watch") == "kedro snowflake-mlflow watch"
    other = replace(plan, pipeline="it's", env="prod")
    assert command(other, "run --retry") == (
        """kedro snowflake-mlflow run --retry --pipeline 'it'"'"'s' --env prod"""
    )
    assert 'EXECUTE TASK "DEMO"."PIPES"."WINE__DEFAULT" RETRY LAST;' in retry_hint(plan)


class Told:
    """A history that returns one state after another."""

    def __init__(self, *tellings: list[TaskRun]) -> None:
        self._tellings = list(tellings)

    def runs(self) -> list[TaskRun]:
        """Return the next state."""
        return self._tellings.pop(0) if len(self._tellings) > 1 else self._tellings[0]


def watched(
    plan: Plan, *tellings: list[TaskRun], before: tuple[Any, ...] = ()
) -> dict[str, TaskRun]:
    """Watch until the end, and return the last state."""
    history: Any = Told(*tellings)
    *_, last = Watch(history, plan, set(before)).states()
    return last


def everything(plan: Plan, attempt: int = 1) -> list[TaskRun]:
    """Return the runs of a pipeline that succeeded."""
    return [run(plan, node, "SUCCEEDED", attempt) for node in plan.tasks.values()]


def test_a_run_ends_with_its_last_task(planned: Callable[..., Plan]) -> None:
    """Watching ends when the finalizer has ended, after success or failure."""
    plan = planned()
    done = everything(plan)
    assert has_succeeded(plan, watched(plan, [], done[:-1], done))
    failed = [run(plan, "start", "SUCCEEDED"), run(plan, "load", "FAILED", error="e")]
    ended = [*failed, run(plan, "end", "SUCCEEDED")]
    assert not has_succeeded(plan, watched(plan, failed, ended))


def test_what_succeeded_long_ago_still_counts(planned: Callable[..., Plan]) -> None:
    """Snowflake returns only the last hour: of a retry, only the tasks that ran again."""
    plan = planned()
    again = [run(plan, "join", "SUCCEEDED", 2), run(plan, "end", "SUCCEEDED", 2)]
    assert has_succeeded(plan, watched(plan, again))


def test_a_root_that_fails_ends_it(planned: Callable[..., Plan]) -> None:
    """If the root itself fails, no task follows."""
    plan = planned()
    assert not has_succeeded(plan, watched(plan, [run(plan, "start", "CANCELLED")]))


def test_snowflakes_own_retries_are_awaited(planned: Callable[..., Plan]) -> None:
    """With retries, a failed attempt is not the end while Snowflake tries again."""
    plan = planned(retries=1)
    failed = [run(plan, "load", "FAILED", error="e"), run(plan, "end", "SUCCEEDED")]
    assert has_succeeded(plan, watched(plan, failed, everything(plan, attempt=2)))
    again = [run(plan, "load", "FAILED", 2, "e"), run(plan, "end", "SUCCEEDED", 2)]
    assert not has_succeeded(plan, watched(plan, failed, [*failed, *again]))


def test_an_attempt_between_two_polls_is_shown(planned: Callable[..., Plan]) -> None:
    """A failure is shown even if Snowflake's own retry has begun, or ended, before the next look."""
    plan = planned(retries=1)
    failed = [run(plan, "load", "FAILED", error="e"), run(plan, "end", "SUCCEEDED")]
    history: Any = Told([run(plan, "load", "EXECUTING")], [*failed, *everything(plan, attempt=2)])
    out = io.StringIO()
    progress = Progress(plan, Console(file=out, width=200))
    assert has_succeeded(plan, progress.follow(Watch(history, plan, set()).states()))
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert [line for line in lines if "load" in line] == [
        "running load",
        "FAILED load 3.0 s",
        "done load 3.0 s (try 2)",
    ]


def test_a_retry_is_watched_from_its_beginning(planned: Callable[..., Plan]) -> None:
    """Earlier attempts of this run are shown but do not end it; other runs are ignored."""
    plan = planned()
    other = TaskRun(plan.end.object, "SUCCEEDED", NOON, NOON, "", "", ("other", 1))
    first = [
        *(r for r in everything(plan) if r.task != plan.steps[-1].task.object),
        run(plan, "join", "FAILED", error="e"),
    ]
    second = [run(plan, "join", "SUCCEEDED", 2), run(plan, "end", "SUCCEEDED", 2)]
    before = (("other", 1), ("group", 1))
    last = watched(plan, [other, *first], [other, *first, *second], before=before)
    assert has_succeeded(plan, last)
    assert last[plan.end.object].id == ("group", 2)
