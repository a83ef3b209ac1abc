"""Replay: the events of a training produce the same runs on another server, each once."""

import math
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_connections_events.files import SourceFiles
from mlflow_connections_events.replay import ReplaySink
from mlflow_connections_events.testing import describe, differences
from mlflow_connections_outbox import Batch, Event, Unavailable
from mlflow_connections_sandbox import MlflowServer

# No MLflow version has all attributes of another.
mlflow: Any = import_module("mlflow")

ODD = (("nan", math.nan), ("infinite", math.inf), ("a", 1.0), ("b", 2.0))
Train = Callable[[str, Path], None]


def replay(events: Sequence[Event], target: str, state: Path, source: str) -> ReplaySink:
    """Deliver events in batches, and fail the test if one is rejected."""
    # As in the shipper's process: MLflow 2.22 resolves proxied artifacts by this URI.
    mlflow.set_tracking_uri(target)
    sink = ReplaySink(target, {}, state, files=SourceFiles(source))
    for start in range(0, len(events), 500):
        rejected: list[str] = []
        batch = Batch(events[start : start + 500], on_reject=lambda _, why: rejected.append(why))  # noqa: B023
        sink.send(batch)
        assert rejected == []
        assert batch.accepted == len(batch)
    return sink


@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=pytest.mark.slow), "server"])
def test_a_training_arrives_complete_and_once(
    kind: str,
    recorded: Any,
    train: Train,
    mlflow_server: MlflowServer,
    tmp_path: Path,
) -> None:
    """Runs, histories, params, tags, inputs, states and files are equal, also after a second replay."""
    name = f"wine {tmp_path.name}"
    train(name, tmp_path)
    source = f"sqlite:///{tmp_path / 'source.db'}"
    target = mlflow_server.url if kind == "server" else f"sqlite:///{tmp_path / 'target.db'}"
    replay(recorded.events, target, tmp_path / "state", source)
    # A second machine has a copy of the spool, without its state.
    replay(recorded.events, target, tmp_path / "other", source)
    arrived = describe(target, experiments=[name])
    assert differences(describe(source, experiments=[name]), arrived) == []
    assert len(arrived["runs"]) == 4


class Flaky:
    """A store of which a third of the responses, by chance, is lost after the work is done."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._random = random.Random(7)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            # Not each third one: an attempt of three calls would fail for ever.
            if self._random.random() < 1 / 3:
                raise ConnectionError("The response was lost.")
            return result

        return call


@pytest.mark.slow
def test_lost_responses_duplicate_nothing(recorded: Any, train: Train, tmp_path: Path) -> None:
    """A server that works and whose responses are lost has every run once, and nothing is rejected."""
    train("wine", tmp_path)
    source, target = (f"sqlite:///{tmp_path / name}.db" for name in ("source", "target"))
    events, state = recorded.events, tmp_path / "state"
    attempts = 0
    sink = ReplaySink(target, {}, state, files=SourceFiles(source))
    flaky = Flaky(sink._applier.target.tracking)
    while events:
        sink = ReplaySink(target, {}, state, files=SourceFiles(source))
        sink._applier.target.tracking = flaky
        rejected: list[str] = []
        batch = Batch(events, on_reject=lambda _, why: rejected.append(why))  # noqa: B023
        try:
            sink.send(batch)
        except Unavailable:
            attempts += 1
        assert rejected == []
        events = events[batch.accepted :]
    assert attempts > 5
    assert differences(describe(source), describe(target)) == []


def test_an_event_that_the_server_refuses_is_rejected_alone(recorded: Any, tmp_path: Path) -> None:
    """A param that was changed by another client is set aside; its neighbours in the same request arrive."""
    mlflow.set_experiment("wine")
    with mlflow.start_run() as run:
        for step in range(3):
            mlflow.log_metric("loss", 1.0, step=step)
    target = f"sqlite:///{tmp_path / 'target.db'}"
    wrong = Event(run.info.run_id, "logged", 1, {"params": {"p": "2"}}, "wrong")
    right = wrong._replace(data={"params": {"p": "1"}}, id="right")
    events = [*recorded.events[:-1], right, wrong, recorded.events[-1]]
    rejected: list[int] = []
    batch = Batch(events, on_reject=lambda position, _: rejected.append(position))
    sink = ReplaySink(target, {}, tmp_path / "state")
    sink.send(batch)
    assert rejected == [len(events) - 2]
    assert batch.accepted == len(events)
    found = MlflowClient(target).get_run(sink.ids.get(run.info.run_id) or "")
    assert found.data.params == {"p": "1"}
    assert found.info.status == "FINISHED"


def test_a_destination_restored_from_a_backup_gets_its_runs_again(
    recorded: Any, tmp_path: Path
) -> None:
    """Later events of a lost run are refused with the remedy, and arrive once the run was copied again."""
    mlflow.set_experiment("wine")
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 1.0, step=0)
    first, later = recorded.events[:3], recorded.events[3:]
    assert [event.kind for event in later] == ["run_updated"]
    source, target = (f"sqlite:///{tmp_path / name}.db" for name in ("source", "target"))
    replay(first, target, tmp_path / "state", source)
    backup = f"sqlite:///{tmp_path / 'backup.db'}"
    reasons: list[str] = []
    sink = ReplaySink(backup, {}, tmp_path / "state")
    sink.send(Batch(later, on_reject=lambda _, why: reasons.append(why)))
    assert f"The run {run.info.run_id} no longer exists at the destination" in reasons[0]
    replay(first, backup, tmp_path / "new", source)
    reasons.clear()
    ReplaySink(backup, {}, tmp_path / "state").send(
        Batch(later, on_reject=lambda _, why: reasons.append(why))
    )
    assert reasons == []
    (found,) = describe(backup, experiments=["wine"])["runs"].values()
    assert (found["status"], len(found["metrics"]["loss"])) == ("FINISHED", 1)


def test_a_server_that_is_down_keeps_everything(tmp_path: Path) -> None:
    """A dead address is unavailable, and no event is accepted."""
    event = Event(
        "7", "experiment_created", 1, {"name": "n", "artifact_location": None, "tags": {}}
    )
    batch = Batch([event])
    with pytest.raises(Unavailable, match="does not take events now"):
        ReplaySink("http://127.0.0.1:9", {}, tmp_path).send(batch)
    assert batch.accepted == 0


OPEN = """
import sys
from pathlib import Path
if sys.argv[1] == "plain":
    from mlflow import MlflowClient
    MlflowClient(sys.argv[2]).search_experiments()
else:
    from mlflow_connections_events.replay import ReplaySink
    assert ReplaySink(sys.argv[2], {}, Path(sys.argv[3])).answers()
"""


@pytest.mark.slow
@pytest.mark.parametrize("other", ["plain", "ours"])
def test_two_processes_may_create_one_database(
    other: str, warm_python: str, tmp_path: Path
) -> None:
    """A destination opens a new SQLite database while MLflow, or another destination, creates it."""
    path = tmp_path / "new.db"
    uri = f"sqlite:///{path}"
    command = [warm_python, "-c", OPEN, other, uri, str(tmp_path / "other")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("*new.db*")) and process.poll() is None:
            time.sleep(0.001)
        assert ReplaySink(uri, {}, tmp_path / "state").answers()
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert [each.name for each in MlflowClient(uri).search_experiments()] == ["Default"]
    assert [each.name for each in tmp_path.glob("*new.db*")] == ["new.db"]


def test_values_that_equal_nothing_are_written_again_in_one_request(
    mlflow_server: MlflowServer, make_proxy: Callable[[str], Any], tmp_path: Path
) -> None:
    """MLflow refuses NaN that it already has, and MLflow 3.5 others too: only new values are sent."""
    values = [[key, number, 1_000 + step, step] for key, number in ODD for step in range(350)]
    logged = Event("source", "logged", 1, {"metrics": values, "tags": {"a": "1"}}, "logged")
    more = {"metrics": [*values, ["loss", 0.5, 9_000, 9], ["nan", math.nan, 9_000, 9]] * 2}
    client = MlflowClient(mlflow_server.url)
    run_id = client.create_run(client.create_experiment(f"odd {tmp_path.name}")).info.run_id
    proxy = make_proxy(mlflow_server.url)
    sink = ReplaySink(proxy.url, {}, tmp_path / "state")
    sink.ids.put("source", run_id)
    for event in (logged, logged._replace(data={**logged.data, **more})):
        proxy.requests.clear()
        rejected: list[str] = []
        sink.send(Batch([event], on_reject=lambda _, why: rejected.append(why)))  # noqa: B023
        assert rejected == []
        assert proxy.count("log-batch") <= 6
        assert proxy.count("get-history") <= len(ODD) + 1
    found = client.get_metric_history(run_id, "nan")
    assert [metric.step for metric in found] == [*range(350), 9]
    assert all(math.isnan(metric.value) for metric in found)
    for key in ("infinite", "a", "b"):
        assert len(client.get_metric_history(run_id, key)) == 350
    assert len(client.get_metric_history(run_id, "loss")) == 1


@pytest.mark.slow
def test_logged_models_load_and_registered_versions_point_at_them(
    recorded: Any, tmp_path: Path
) -> None:
    """A model of MLflow 3 arrives with its files under IDs of the destination, and loads."""
    if mlflow.__version__.startswith("2."):
        pytest.skip("logged models came with MLflow 3; the fluent test covers MLflow 2's")

    class Doubling(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # of no known type
        def predict(
            self, context: Any, model_input: list[float], params: Any = None
        ) -> list[float]:
            return [2 * x for x in model_input]

    mlflow.set_experiment("models")
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 0.5)
        info = mlflow.pyfunc.log_model(name="model", python_model=Doubling(), pip_requirements=[])
    source, target = (f"sqlite:///{tmp_path / name}.db" for name in ("source", "target"))
    version = Event(
        "wine",
        "version_created",
        1,
        {
            "version": "7",
            "source": f"models:/{info.model_id}",
            "source_run": run.info.run_id,
            "model_id": info.model_id,
            "tags": {"checked": "yes"},
            "description": "The seventh.",
        },
        "v",
    )
    created = Event("wine", "registered_model_created", 1, {"tags": {}, "description": None}, "c")
    alias = Event("wine", "alias_set", 1, {"alias": "champion", "version": "7"}, "a")
    mlflow.set_tracking_uri(target)
    mlflow.set_registry_uri(target)
    sink = replay([*recorded.events, created, version, alias], target, tmp_path / "state", source)
    replay([*recorded.events, created, version, alias], target, tmp_path / "other", source)
    model_id = sink.ids.get(info.model_id) or ""
    assert model_id not in {"", info.model_id}
    assert mlflow.pyfunc.load_model(f"models:/{model_id}").predict([1.0, 2.0]) == [2.0, 4.0]
    client = MlflowClient(target)
    loaded = mlflow.pyfunc.load_model("models:/wine@champion")
    assert loaded.predict([3.0]) == [6.0]
    (found,) = client.search_model_versions("name = 'wine'")
    assert found.run_id == sink.ids.get(run.info.run_id)
    assert found.tags["checked"] == "yes"
    (metric,) = client.get_metric_history(str(found.run_id), "loss")
    assert metric.value == 0.5
    assert client.get_logged_model(model_id).source_run_id == found.run_id


def test_servers_with_the_same_ids_are_not_confused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first versions of two servers' models arrive both, as do runs of one ID that began at different times."""
    target = f"sqlite:///{tmp_path / 'target.db'}"
    # The process that delivers has another folder than the database.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run: dict[str, Any] = {"experiment_id": "1", "experiment_name": "wine", "parent": None}
    run |= {"user": "me", "run_name": "train-1", "tags": {}, "artifact_uri": None}
    rejected: list[str] = []
    # The last is the first under another address.
    for number, (server, start) in enumerate((("a", 1), ("b", 2), ("a", 1), ("b", 2), ("c", 1))):
        sink = ReplaySink(target, {}, tmp_path / str(number), source=f"http://{server}")
        version = {"version": "1", "tags": {}, "description": None, "run": run}
        place = "b" if server == "b" else "a"
        events = [
            Event("train-1", "run_started", start, {**run, "start_time": start}, "1"),
            Event("wine", "registered_model_created", 2, {"tags": {}, "description": None}, "2"),
            Event("wine", "version_created", 3, {**version, "source": f"s3://{place}"}, "3"),
            Event("wine", "alias_set", 4, {"alias": server, "version": "1"}, "4"),
            Event("beer", "registered_model_created", 5, {"tags": {}, "description": None}, "5"),
            Event(
                *("beer", "version_created", 6),
                {**version, "source": "s3://beer", "source_run": "train-1"},
                "6",
            ),
        ]
        sink.send(Batch(events, on_reject=lambda _, why: rejected.append(why)))
    assert rejected == []
    client = MlflowClient(target)
    experiment = client.get_experiment_by_name("wine")
    assert experiment is not None
    assert experiment.artifact_location == f"{tmp_path / 'mlruns'}/{experiment.experiment_id}"
    found = client.search_runs([experiment.experiment_id])
    starts = {each.info.run_id: each.info.start_time for each in found}
    assert sorted(starts.values()) == [1, 2]
    beers = client.search_model_versions("name = 'beer'")
    assert sorted(starts[each.run_id] for each in beers) == [1, 2]
    wines = {each.version: each.source for each in client.search_model_versions("name = 'wine'")}
    aliases = client.get_registered_model("wine").aliases
    assert {alias: wines[version] for alias, version in aliases.items()} == {
        "a": "s3://a",
        "b": "s3://b",
        "c": "s3://a",
    }
    assert len(wines) == 2
