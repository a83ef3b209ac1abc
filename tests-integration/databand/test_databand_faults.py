"""Whatever the fault at Databand: MLflow has everything, and Databand finally has it, once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_connections_sandbox import Fault
from mlflow_connections_sandbox._databand import Databand, compare

Duplicate = Callable[[str], Any]
Deliver = Callable[[], None]


def train(steps: int = 40) -> str:
    """Log as a training does, and return the run's ID."""
    with mlflow.start_run() as run:
        mlflow.log_params({"a": 1, "b": 2})
        for step in range(steps):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
    run_id: str = run.info.run_id
    return run_id


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(status=500, body="<html>", content_type="text/html"), id="500"),
        pytest.param(Fault(status=401), id="token-refused"),
        pytest.param(Fault(status=429, headers=(("Retry-After", "1"),)), id="429"),
        pytest.param(Fault(cut=True), id="cut"),
        pytest.param(Fault(path="tracking", truncate=1), id="half-answer"),
        pytest.param(Fault(path="tracking", status=302), id="redirect"),
    ],
)
def test_nothing_is_lost_while_the_tracker_fails(
    fault: Fault, tracker: Databand, sqlite_uri: str, duplicate: Duplicate, deliver: Deliver
) -> None:
    """A run that was logged during a fault is delivered after recovery, complete, in order and once."""
    with duplicate(sqlite_uri):
        tracker.faults.inject(fault)
        train()
        assert tracker.journal.requests("tracking"), "the fault was never met"
        tracker.faults.clear()
        train()
    deliver()
    assert compare(sqlite_uri, tracker) == []
    assert steps_in_order(tracker)


def steps_in_order(tracker: Databand) -> bool:
    """Return whether each run's metric arrived in the order of its steps."""
    for run in tracker.runs():
        steps = [
            (m["value_json"] or {}).get("step", 0)
            for m in run["tasks"][0]["metrics"]
            if m["key"] == "loss"
        ]
        if steps != sorted(steps):
            return False
    return True


def test_a_tracker_that_is_down_from_start_to_end_gets_everything_later(
    tracker: Databand, sqlite_uri: str, duplicate: Duplicate, deliver: Deliver
) -> None:
    """Two runs that were logged without a tracker arrive once it runs."""
    tracker.close()
    with duplicate(sqlite_uri):
        train()
        train()
    tracker.start()
    deliver()
    assert compare(sqlite_uri, tracker) == []
    assert steps_in_order(tracker)


def test_a_tracker_that_goes_down_in_the_middle_gets_everything(
    tracker: Databand, sqlite_uri: str, duplicate: Duplicate, deliver: Deliver
) -> None:
    """A run that began before the tracker's restart is complete after it."""
    with duplicate(sqlite_uri), mlflow.start_run():
        for step in range(60):
            mlflow.log_metric("loss", 1.0, step=step)
            if step == 20:
                wait_until(lambda: bool(tracker.runs()))
                tracker.close()
            if step == 40:
                tracker.start()
    deliver()
    assert compare(sqlite_uri, tracker) == []
    assert steps_in_order(tracker)


def test_a_slow_tracker_gets_everything(
    tracker: Databand, sqlite_uri: str, duplicate: Duplicate, deliver: Deliver
) -> None:
    """A tracker that needs a second for each call receives everything in the end."""
    tracker.faults.inject(Fault(path="tracking", delay=1.0))
    with duplicate(sqlite_uri):
        train()
    deliver()
    assert compare(sqlite_uri, tracker) == []


def test_a_replay_adds_nothing(
    tracker: Databand, sqlite_uri: str, duplicate: Duplicate, deliver: Deliver
) -> None:
    """An accepted request whose response was lost is sent again, and counts once."""
    with duplicate(sqlite_uri):
        tracker.faults.inject(Fault(path="log_metrics", truncate=1, times=2))
        train()
    deliver()
    assert tracker.database.repeated() > 0
    assert compare(sqlite_uri, tracker) == []


def test_when_mlflow_is_down_the_error_is_mlflows_and_databand_gets_nothing(
    tracker: Databand, duplicate: Duplicate, deliver: Deliver
) -> None:
    """Databand receives only data that MLflow accepted."""
    with duplicate("http://127.0.0.1:9"), pytest.raises(MlflowException, match=r"127\.0\.0\.1"):
        MlflowClient().create_run("0")
    deliver()
    assert tracker.runs() == []
    assert not tracker.journal.requests("tracking")


def test_data_refused_by_mlflow_is_not_copied(
    tracker: Databand, sqlite_uri: str, duplicate: Duplicate, deliver: Deliver
) -> None:
    """A param that MLflow refuses to change keeps its value in the copy too."""
    with duplicate(sqlite_uri), mlflow.start_run():
        mlflow.log_param("p", "first")
        with pytest.raises(MlflowException, match="Changing param values"):
            mlflow.log_param("p", "second")
    deliver()
    assert compare(sqlite_uri, tracker) == []


_WORKER = """
import sys
import mlflow

with mlflow.start_run():
    step = 0
    while True:
        mlflow.log_metric("loss", 1.0, step=step)
        print(step, flush=True)
        step += 1
"""


def test_the_data_of_a_killed_training_arrives(
    tracker: Databand, sqlite_uri: str, duplicate: Duplicate, deliver: Deliver, tmp_path: Path
) -> None:
    """Every metric whose call returned before kill -9 is delivered by the next process."""
    with duplicate(sqlite_uri):
        # The schema is created in advance, because concurrent first uses of MLflow's SQLite store
        # collide.
        train(1)
        returned = {}
        for moment in (5, 17, 31):
            with (tmp_path / "log").open("wb") as log:
                worker = subprocess.Popen(
                    [sys.executable, "-c", _WORKER], stdout=subprocess.PIPE, stderr=log, text=True
                )
            assert worker.stdout is not None
            for line in worker.stdout:
                if int(line) == moment:
                    os.kill(worker.pid, signal.SIGKILL)
                    break
            last = [int(line) for line in worker.stdout] or [moment]
            worker.wait()
            returned[moment] = last[-1]
        train(1)
    deliver()
    wait_until(lambda: len(tracker.runs()) == 5)
    _, *killed, _ = points(tracker)
    assert all(count > last for count, last in zip(killed, returned.values(), strict=True))
    assert steps_in_order(tracker)


def points(tracker: Databand) -> list[int]:
    """Count the points of each run's metric."""
    return [sum(m["key"] == "loss" for m in run["tasks"][0]["metrics"]) for run in tracker.runs()]


def wait_until(is_true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for the effect of another process."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.1)
