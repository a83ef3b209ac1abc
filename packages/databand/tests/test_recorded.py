"""The requests equal those that this package sent before its parts became separate packages.

That version wrote `data/recorded.json`. For one scenario of calls to a store with fixed responses,
it contains the events that the version spooled, and its requests.
"""

import itertools
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlflow_connections_databand import _dbnd
from mlflow_connections_databand._mapping import calls, merged
from mlflow_connections_databand._redact import redact
from mlflow_connections_events import duplicate
from mlflow_connections_events.vocabulary import RUN_KINDS
from mlflow_connections_outbox import Event

START = 1_700_000_000_000
PARENT, CHILD, OLD = (letter * 32 for letter in "abc")
DATASET_PROFILE = '{"num_rows": 3, "mean": NaN}'


class FixedStore:
    """A tracking store with fixed responses."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create_experiment(self, name: str, artifact_location: Any = None, tags: Any = None) -> str:
        """Create experiment 7."""
        return "7"

    def get_experiment(self, experiment_id: str) -> Any:
        """Return an experiment named after its ID."""
        return SimpleNamespace(
            experiment_id=experiment_id, name=f"experiment-{experiment_id}", tags={}
        )

    def create_run(
        self, experiment_id: str, user_id: str, start_time: int, tags: Any, run_name: str
    ) -> Any:
        """Create the run whose ID is its name, repeated eight times."""
        return self._run(run_name, experiment_id, {tag.key: tag.value for tag in tags})

    def get_run(self, run_id: str) -> Any:
        """Return a run that an earlier process created."""
        return self._run(run_id, "7", {"old": "yes"}, {"depth": "3"})

    def update_run_info(self, run_id: str, run_status: Any, end_time: Any, run_name: Any) -> Any:
        """End or rename a run."""
        return SimpleNamespace(status=run_status or "RUNNING", end_time=end_time)

    def delete_run(self, run_id: str) -> None:
        """Accept."""

    def restore_run(self, run_id: str) -> None:
        """Accept."""

    def log_metric(self, run_id: str, metric: Any) -> None:
        """Accept."""

    def log_param(self, run_id: str, param: Any) -> None:
        """Accept."""

    def set_tag(self, run_id: str, tag: Any) -> None:
        """Accept."""

    def delete_tag(self, run_id: str, key: str) -> None:
        """Accept."""

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        """Accept."""

    def log_inputs(self, run_id: str, datasets: Any = None, models: Any = None) -> None:
        """Accept."""

    def log_outputs(self, run_id: str, models: Any) -> None:
        """Accept."""

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """Accept."""

    def create_logged_model(self, experiment_id: str, source_run_id: str) -> Any:
        """Create model m-1."""
        return self._model("PENDING")

    def finalize_logged_model(self, model_id: str, status: Any) -> Any:
        """Finalize model m-1."""
        return self._model("READY")

    def _run(
        self, run_id: str, experiment_id: str, tags: dict[str, str], params: Any = None
    ) -> Any:
        info = SimpleNamespace(
            run_id=run_id,
            experiment_id=experiment_id,
            user_id="me",
            status="RUNNING",
            start_time=START,
            end_time=None,
            lifecycle_stage="active",
            artifact_uri=f"{self._folder.as_uri()}/{run_id}",
            run_name=f"name-{run_id[0]}",
        )
        return SimpleNamespace(info=info, data=SimpleNamespace(tags=tags, params=params or {}))

    def _model(self, status: str) -> Any:
        return SimpleNamespace(
            model_id="m-1",
            experiment_id="7",
            name="model",
            model_type="sklearn",
            source_run_id=PARENT,
            status=SimpleNamespace(value=status),
            artifact_location="/nowhere/m-1",
            creation_timestamp=START,
            params={"depth": "3"},
            tags={"password": "hidden"},
        )


def pair(key: str, value: Any) -> Any:
    """Return a param or a tag."""
    return SimpleNamespace(key=key, value=value)


def metric(key: str, value: Any, step: Any = 0, **more: Any) -> Any:
    """Return a metric."""
    return SimpleNamespace(key=key, value=value, timestamp=START + 5, step=step, **more)


def play(store: Any, upload: Callable[[str], None]) -> None:
    """Make every call that is copied to Databand.

    Args:
        store: The duplicating store.
        upload: Uploads some artifacts to the given URI.
    """
    store.create_experiment("experiment-7")
    tags = [pair("mlflow.user", "me"), pair("mlflow.note.content", "A note.")]
    parent = store.create_run("7", "me", START, tags, PARENT)
    child_tags = [pair("mlflow.parentRunId", PARENT), pair("api_key", "hidden")]
    store.create_run("7", "me", START, child_tags, CHILD)
    store.log_metric(PARENT, metric("loss", 0.5, 3))
    store.log_metric(PARENT, metric("linked", 1, 0, model_id="m-1", dataset_name="d"))
    numbers = [metric("nan", math.nan), metric("inf", math.inf, 2), metric("text", "high", None)]
    long = [pair("long", "x" * 5_500), pair("db_password", "hidden")]
    store.log_batch(PARENT, numbers, long, [pair("repo", "https://me:hidden@git/x")])
    store.log_param(CHILD, pair("alpha", 0.1))
    store.set_tag(CHILD, pair("stage", "dev"))
    store.delete_tag(CHILD, "stage")
    dataset = SimpleNamespace(
        name="d",
        digest="abc",
        source_type="local",
        source='{"uri": "s3://me:hidden@bucket/key"}',
        schema='{"mlflow_colspec": [{"name": "x", "type": "double"}]}',
        profile=DATASET_PROFILE,
    )
    entity = SimpleNamespace(dataset=dataset, tags=[pair("mlflow.data.context", "training")])
    store.log_inputs(PARENT, [entity], [SimpleNamespace(model_id="m-0")])
    store.log_outputs(PARENT, [SimpleNamespace(model_id="m-1", step=4)])
    content = {
        "artifact_path": "model",
        "model_uuid": "u1",
        "utc_time_created": "2023-11-14 22:13:20",
        "flavors": {"sklearn": {}, "python_function": {}},
        "run_id": PARENT,
    }
    store.record_logged_model(PARENT, SimpleNamespace(get_tags_dict=lambda: content))
    store.create_logged_model("7", PARENT)
    store.finalize_logged_model("m-1", "READY")
    upload(parent.info.artifact_uri)
    store.log_metric(OLD, metric("resumed", 2.0, 1))
    store.update_run_info(PARENT, None, None, "renamed")
    store.update_run_info(CHILD, "FAILED", START + 8_000, None)
    store.delete_run(CHILD)
    store.restore_run(CHILD)
    store.update_run_info(PARENT, "FINISHED", START + 9_000, None)


RECORDED: Mapping[str, Any] = json.loads(
    (Path(__file__).parent / "data" / "recorded.json").read_text()
)
ATTEMPT = {
    "run_uid": "00000000-0000-0000-0000-000000000001",
    "task_run_uid": "00000000-0000-0000-0000-000000000002",
    "task_run_attempt_uid": "00000000-0000-0000-0000-000000000003",
    "task_name": "task",
}
WAYS = {"run": None, "dbnd task": ATTEMPT}


class JsonLog:
    """Keeps events as a spool does: as JSON."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, event: Event) -> None:
        """Keep an event in its current state."""
        self.events.append(Event(*json.loads(json.dumps(event))))

    def flush(self, timeout: float) -> int:
        """Return at once."""
        return 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that advances by a millisecond each time it is read."""
    count = itertools.count(START)
    monkeypatch.setattr(time, "time_ns", lambda: next(count) * 1_000_000)


def as_text(requests: Any, folder: str = "file:///folder") -> str:
    """Return requests as text, because NaN is not equal to itself."""
    return json.dumps(requests, indent=1, sort_keys=True).replace(folder, "file:///folder")


@pytest.mark.parametrize("way", WAYS)
def test_events_of_the_first_vocabulary_become_the_same_requests(way: str) -> None:
    """A spool that an earlier version wrote is delivered unchanged."""
    events = [Event(*fields) for fields in RECORDED[way]["events"]]
    requests = [[call.endpoint, call.body] for call in merged(calls(events))]
    assert as_text(requests) == as_text(RECORDED[way]["requests"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("clock")
def test_the_same_calls_become_the_same_requests(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that is copied to Databand makes the same requests, including nested runs and artifacts."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    def upload(uri: str) -> None:
        local = tmp_path / "local"
        (local / "sub").mkdir(parents=True)
        (local / "a.txt").write_text("a")
        (local / "sub" / "b.txt").write_text("bb")
        repository = get_artifact_repository(uri)
        repository.log_artifact(str(local / "a.txt"))
        repository.log_artifacts(str(local), "folder")

    monkeypatch.setattr(_dbnd, "current_attempt", lambda: WAYS[way])
    log = JsonLog()
    store = duplicate(
        FixedStore(tmp_path),
        log,
        redact=redact,
        extra=_dbnd.current_attempt,
        kinds=RUN_KINDS,
    )
    play(store, upload)
    requests = [[call.endpoint, call.body] for call in merged(calls(log.events))]
    folder = tmp_path.as_uri()
    assert as_text(requests, folder) == as_text(RECORDED[way]["requests"])
    assert "hidden" not in as_text(log.events)
