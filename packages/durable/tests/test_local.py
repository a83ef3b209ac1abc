"""The state of runs that this process knows, and the records of this machine."""

import threading
from pathlib import Path

import pytest

from mlflow_connections_durable import _local
from mlflow_connections_durable._experiment_ids import (
    is_provisional_experiment,
    provisional_experiment,
)
from mlflow_connections_durable._local import LocalFile, LocalFiles, LocalRun
from mlflow_connections_durable._records import Records


@pytest.fixture
def run() -> LocalRun:
    """A run that this process created."""
    return LocalRun("a" * 32, "1", name="first", is_whole=True)


def test_the_latest_metric_has_the_greatest_step(run: LocalRun) -> None:
    """As in MLflow, the order of arrival does not count; equal steps are ordered by time, then by value."""
    run.add_metrics([["loss", 3.0, 10, 2], ["loss", 1.0, 20, 1], ["loss", 4.0, 10, 2]])
    assert run.entity().data.metrics == {"loss": 4.0}
    assert [m.value for m in run.points("loss") or ()] == [3.0, 1.0, 4.0]


def test_equal_points_are_one(run: LocalRun) -> None:
    """A server keeps one of them too."""
    run.add_metrics([["loss", 3.0, 10, 2]] * 2)
    assert len(run.points("loss") or ()) == 1


def test_a_long_history_is_read_from_the_server(
    run: LocalRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is limited: beyond the limit only the latest value is known."""
    monkeypatch.setattr(_local, "MAX_POINTS", 3)
    run.add_metrics([["loss", float(step), step, step] for step in range(5)])
    assert run.points("loss") is None
    assert run.entity().data.metrics == {"loss": 4.0}


def test_a_tag_renames_a_run(run: LocalRun) -> None:
    """The name and its tag are one, as on a server."""
    run.add_tags({"mlflow.runName": "second"})
    assert run.info().run_name == "second"
    run.rename("third")
    assert run.entity().data.tags["mlflow.runName"] == "third"


def test_folders_are_listed_from_their_files() -> None:
    """A folder shows its own files with their sizes, and folders without one."""
    files = LocalFiles()
    sizes = {"a/b/c.txt": 3, "a/d.txt": 4, "e": 5}
    files.files = {path: LocalFile(size, "u") for path, size in sizes.items()}
    assert files.listed("") == {"a": None, "e": 5}
    assert files.listed("a") == {"a/b": None, "a/d.txt": 4}
    assert files.listed("e") == {}


def test_an_experiment_has_one_provisional_id_everywhere() -> None:
    """Ranks and machines without contact agree, and no server's ID looks like it."""
    assert provisional_experiment("wine") == provisional_experiment("wine")
    assert is_provisional_experiment(provisional_experiment("wine"))
    assert not is_provisional_experiment("1234567890123456")


def test_records_are_shared_and_survive_a_torn_line(tmp_path: Path) -> None:
    """Another process reads them, also after a line that a kill left unfinished."""
    path = tmp_path / "runs.jsonl"
    Records(path).add("a", {"x": 1})
    with path.open("a") as file:
        file.write('{"id": "torn')
    Records(path).add("b", {"x": 2})
    reader = Records(path)
    assert reader.all() == {"a": {"x": 1}, "b": {"x": 2}}
    Records(path).add("c", {"x": 3})
    assert reader.get("c") == {"x": 3}


def test_records_of_many_threads_stay_complete(tmp_path: Path) -> None:
    """Lines that are written concurrently do not mix."""
    path = tmp_path / "runs.jsonl"
    records = Records(path)
    threads = [
        threading.Thread(target=records.add, args=(f"{n}", {"x": "y" * 3_000})) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Records(path).all()) == 20
