"""Every fluent MLflow call has the same result with and without a composite URI, and Databand gets the same data."""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_sandbox._databand import Databand, compare

# No MLflow version has all attributes of another; pandas and scikit-learn have no types.
mlflow: Any = import_module("mlflow")
pd: Any = import_module("pandas")

Duplicate = Callable[[str], Any]
Deliver = Callable[[], None]


def log_everything(experiment: str, folder: Path) -> str:
    """Use as much of the fluent API as one run can; return the run's ID."""
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name="parent", tags={"stage": "dev"}, description="A run.") as run:
        mlflow.log_param("alpha", 0.5)
        mlflow.log_params({"db_password": "hunter2", "long": "x" * 5_500})
        mlflow.log_metric("loss", 0.25)
        for step in range(3):
            mlflow.log_metric("accuracy", 0.5 + step / 10, step=step)
        mlflow.log_metrics({"nan": math.nan, "inf": math.inf, "big": 10**16}, step=7)
        mlflow.set_tags({"a": "1", "b": "2", "text": "y" * 4_500})
        mlflow.set_tag("a", "3")
        mlflow.delete_tag("b")
        mlflow.log_metric("late", 1.0, synchronous=False)
        mlflow.log_param("later", "p", synchronous=False)
        mlflow.flush_async_logging()
        mlflow.log_text("hello", "notes/hello.txt")
        mlflow.log_dict({"a": [1, 2]}, "config.json")
        (folder / "data").mkdir(exist_ok=True)
        (folder / "data" / "one.bin").write_bytes(b"1")
        mlflow.log_artifacts(str(folder / "data"), "folder")
        frame = pd.DataFrame({"x": [1.0, 2.0], "y": ["a", "b"]})
        mlflow.log_table(frame, "table.json")
        mlflow.log_image(np.zeros((2, 2, 3), dtype=np.uint8), "image.png")
        mlflow.log_input(mlflow.data.from_pandas(frame, name="frame"), context="training")
        with mlflow.start_run(run_name="child", nested=True):
            mlflow.log_metric("child", 1.0)
            with mlflow.start_run(run_name="grandchild", nested=True):
                mlflow.log_metric("grandchild", 2.0)
    with mlflow.start_run(run_id=run.info.run_id):
        mlflow.log_metric("resumed", 1.0)
    with pytest.raises(ZeroDivisionError), mlflow.start_run(run_name="fails"):
        _ = 1 / 0
    client = MlflowClient()
    killed = client.create_run(run.info.experiment_id, run_name="killed")
    client.set_terminated(killed.info.run_id, "KILLED")
    deleted = client.create_run(run.info.experiment_id, run_name="deleted")
    client.delete_run(deleted.info.run_id)
    client.update_run(killed.info.run_id, name="renamed")
    run_id: str = run.info.run_id
    return run_id


def seen(experiment: str, run_id: str) -> Mapping[str, Any]:
    """Read back everything visible to a user, except values that differ between any two runs."""
    run = mlflow.get_run(run_id)
    client = MlflowClient()
    runs = client.search_runs(
        [run.info.experiment_id], order_by=["attributes.start_time ASC"], run_view_type=3
    )
    history = client.get_metric_history(run_id, "accuracy")
    table = mlflow.load_table("table.json", run_ids=[run_id])
    return {
        "experiment": mlflow.get_experiment_by_name(experiment).name,
        "params": run.data.params,
        "metrics": {k: repr(v) for k, v in run.data.metrics.items()},
        "tags": {
            k: v
            for k, v in run.data.tags.items()
            if k not in {"mlflow.runName", "mlflow.source.name"}
        },
        "history": [(m.value, m.step) for m in history],
        "artifacts": sorted(f.path for f in client.list_artifacts(run_id)),
        "text": mlflow.artifacts.load_text(f"runs:/{run_id}/notes/hello.txt"),
        "table": table.to_dict(),
        "inputs": [i.dataset.name for i in run.inputs.dataset_inputs],
        "runs": sorted((r.info.run_name, r.info.status, r.info.lifecycle_stage) for r in runs),
        "found": len(mlflow.search_runs(filter_string="metrics.late = 1.0")),
    }


@pytest.mark.parametrize("backend", ["sqlite", "server"])
def test_fluent_mlflow_is_the_same_through_a_composite_uri(
    backend: str,
    tracker: Databand,
    sqlite_uri: str,
    mlflow_server: MlflowServer,
    duplicate: Duplicate,
    deliver: Deliver,
    tmp_path: Path,
) -> None:
    """Every call returns the same with and without a copy, and the copy equals MLflow's data."""
    plain = sqlite_uri if backend == "sqlite" else mlflow_server.url
    results = {}
    for way in ("plain", "copied"):
        context: Any = duplicate(plain) if way == "copied" else nullcontext()
        if way == "plain":
            mlflow.set_tracking_uri(plain)
        with context:
            experiment = f"fluent {way} {tmp_path.name}"
            run_id = log_everything(experiment, tmp_path)
            results[way] = dict(seen(experiment, run_id))
            assert results[way].pop("experiment") == experiment
    assert results["copied"] == results["plain"]

    deliver()
    assert compare(plain, tracker, f"fluent copied {tmp_path.name}") == []
    assert len(tracker.runs()) == 6


@pytest.mark.parametrize("backend", ["sqlite", "server"])
def test_models_the_registry_and_traces_work_through_a_composite_uri(
    backend: str,
    tracker: Databand,
    sqlite_uri: str,
    mlflow_server: MlflowServer,
    duplicate: Duplicate,
    deliver: Deliver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model is logged, registered, aliased and loaded again; a trace is found."""
    plain = sqlite_uri if backend == "sqlite" else mlflow_server.url
    name = f"model-{tmp_path.name}"
    # A trace is then there once its call has returned.
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    with duplicate(plain):
        mlflow.set_experiment(f"models {tmp_path.name}")

        class Doubling(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # of no known type
            def predict(
                self, context: Any, model_input: list[float], params: Any = None
            ) -> list[float]:
                return [2 * x for x in model_input]

        with mlflow.start_run() as run:
            # MLflow 3 logs it once more for the model.
            mlflow.log_metric("loss", 0.5)
            mlflow.pyfunc.log_model(
                "model",
                python_model=Doubling(),
                pip_requirements=[],
                registered_model_name=name,
            )
        client = MlflowClient()
        client.set_registered_model_alias(name, "champion", "1")
        client.set_model_version_tag(name, "1", "checked", "yes")
        loaded = mlflow.pyfunc.load_model(f"models:/{name}@champion")
        assert loaded.predict([1.0, 2.0]) == [2.0, 4.0]
        assert client.get_model_version(name, "1").run_id == run.info.run_id
        found = traces(f"traces {tmp_path.name}")
    mlflow.set_tracking_uri(plain)
    assert found == traces(f"traces without {tmp_path.name}")
    assert found == 1 or mlflow.__version__.startswith("2.")
    deliver()
    assert compare(plain, tracker, f"models {tmp_path.name}") == []
    (copy,) = tracker.runs()
    models = [m for m in copy["tasks"][0]["metrics"] if m["key"].startswith("mlflow.model.")]
    assert models


def traces(experiment: str) -> int:
    """Trace a call, and count the traces found: MLflow 2.22 finds none with newer dependencies."""
    mlflow.set_experiment(experiment)

    @mlflow.trace  # type: ignore[untyped-decorator]  # of no known type
    def add(x: int, y: int) -> int:
        return x + y

    assert add(1, 2) == 3
    return len(mlflow.search_traces())


def test_autologging_is_copied(
    tracker: Databand,
    sqlite_uri: str,
    duplicate: Duplicate,
    deliver: Deliver,
) -> None:
    """Runs of scikit-learn's autologging, including nested ones, arrive in both places."""
    linear_model: Any = import_module("sklearn.linear_model")
    model_selection: Any = import_module("sklearn.model_selection")
    with duplicate(sqlite_uri):
        mlflow.set_experiment("autolog")
        mlflow.sklearn.autolog(log_models=False, silent=True)
        try:
            x = np.arange(20.0).reshape(-1, 1)
            search = model_selection.GridSearchCV(
                linear_model.LogisticRegression(), {"C": [0.1, 1.0]}, cv=2
            )
            search.fit(x, (x[:, 0] > 9).astype(int))
        finally:
            mlflow.sklearn.autolog(disable=True)
    deliver()
    assert compare(sqlite_uri, tracker) == []
    assert len(tracker.runs()) == 3


def test_an_unknown_run_is_announced_when_it_is_resumed(
    tracker: Databand, sqlite_uri: str, duplicate: Duplicate, deliver: Deliver
) -> None:
    """A run that began without a copy is copied with its params and tags once it is resumed with one."""
    mlflow.set_tracking_uri(sqlite_uri)
    with mlflow.start_run(run_name="before") as run:
        mlflow.log_param("p", 1)
    with duplicate(sqlite_uri):
        MlflowClient().log_metric(run.info.run_id, "m", 1.0)
        MlflowClient().set_tag(run.info.run_id, "t", "v")
    deliver()
    assert compare(sqlite_uri, tracker) == []


def test_the_composite_uri_keeps_the_stores_class(sqlite_uri: str, duplicate: Duplicate) -> None:
    """The store behind a composite URI is an instance of the store's own class."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    from mlflow_connections_events.plugin import tracking_store

    with duplicate(sqlite_uri):
        store = tracking_store(mlflow.get_tracking_uri())
        assert isinstance(store, SqlAlchemyStore)
        assert {n for n in dir(SqlAlchemyStore) if not n.startswith("_")} <= set(dir(store))
