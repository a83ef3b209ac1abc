"""Artifacts and models through a stage, to and from MLflow's artifact root."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from pandas import DataFrame

from mlflow_connections import ConnectionsError
from mlflow_connections_sandbox import MlflowServer
from mlflow_connections_snowflake import store

# MLflow loads this name lazily, which a type checker does not see.
PythonModel: Any = import_module("mlflow.pyfunc").PythonModel


class Doubling(PythonModel):  # type: ignore[misc] # MLflow's class is Any to mypy
    """A model without requirements."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        """Return twice the input."""
        return model_input * 2


@pytest.fixture
def procedure(each_bridge: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A caller's session on each of the three clouds."""
    each_bridge.session.use_role("MLFLOW_CALLER")
    mlflow.set_tracking_uri(store.Bridge.of(each_bridge.setup).uri())
    mlflow.set_experiment(request.node.name)
    yield each_bridge
    each_bridge.session.use_role("ACCOUNTADMIN")


def test_files_are_uploaded_listed_and_downloaded(procedure: Any, tmp_path: Path) -> None:
    """Files and folders work as in any of MLflow's repositories."""
    folder = tmp_path / "given"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "deep" / "er" / "b.bin").write_bytes(bytes(range(256)))
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(folder / "a.txt"))
        mlflow.log_artifacts(str(folder), "tree")
        mlflow.log_text("it's", "texts/t.txt")
        mlflow.log_dict({"k": 1}, "d.json")
    run_id = run.info.run_id
    listed = {i.path: i.file_size for i in mlflow.artifacts.list_artifacts(run_id=run_id)}
    assert sorted(listed) == ["a.txt", "d.json", "texts", "tree"]
    assert (listed["a.txt"], listed["tree"]) == (1, None)
    outside = procedure.mlflow
    assert sorted(i.path for i in outside.list_artifacts(run_id)) == sorted(listed)
    assert [i.path for i in outside.list_artifacts(run_id, "tree/deep")] == ["tree/deep/er"]
    down = Path(mlflow.artifacts.download_artifacts(run_id=run_id, dst_path=str(tmp_path)))
    assert (down / "tree" / "deep" / "er" / "b.bin").read_bytes() == bytes(range(256))
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/texts/t.txt") == "it's"
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/d.json") == {"k": 1}
    assert procedure.session.file.list("@DEMO.DEMO.MLFLOW_UPLOADS") == []


NAMES = (
    *("it's.txt", 'say "hi".txt', "a b.txt", "\u00fcn\u00ef.txt"),
    *("a*b?[c].txt", "50%.txt", "x;--.txt", "a+b.txt"),
)


def test_hostile_names_are_only_names(procedure: Any, tmp_path: Path) -> None:
    """A file of any name is uploaded and downloaded unchanged, and nothing else changes."""
    up, down = tmp_path / "up", tmp_path / "down"
    up.mkdir()
    down.mkdir()
    for name in NAMES:
        (up / name).write_text(name)
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(up), "f older")
        mlflow.log_artifact(str(up / "it's.txt"))
    run_id = run.info.run_id
    outside = {i.path for i in procedure.mlflow.list_artifacts(run_id, "f older")}
    assert outside == {f"f older/{name}" for name in NAMES}
    mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="f older", dst_path=str(down))
    assert {path.name: path.read_text() for path in (down / "f older").iterdir()} == {
        name: name for name in NAMES
    }


def test_a_missing_file_is_named(procedure: Any) -> None:
    """Downloading a missing file raises an error that names the file and the stage."""
    with mlflow.start_run() as run:
        mlflow.log_text("x", "there.txt")
    with pytest.raises((MlflowException, ConnectionsError), match=r"not\.there"):
        mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="not.there")


def test_artifacts_outside_of_the_stage_are_refused(procedure: Any) -> None:
    """A stage that is not on MLflow's artifact root is reported before anything is lost."""
    there = mlflow.create_experiment(f"elsewhere {procedure.config}", "s3://another-bucket/x")
    with mlflow.start_run(experiment_id=there):
        mlflow.log_metric("m", 1)
        with pytest.raises(MlflowException, match=r"s3://another-bucket/x.*location"):
            mlflow.log_text("x", "x.txt")


def test_a_missing_grant_is_reported(procedure: Any) -> None:
    """A role that may not use the stage gets one sentence with the helpful command."""
    stage = 'WRITE ON STAGE "DEMO"."DEMO"."MLFLOW_UPLOADS"'
    procedure.session.use_role("ACCOUNTADMIN")
    procedure.session.sql(f'REVOKE {stage} FROM ROLE "MLFLOW_CALLER"').collect()
    procedure.session.use_role("MLFLOW_CALLER")
    try:
        with (
            mlflow.start_run(),
            pytest.raises(ConnectionsError, match=r"upload to the stage .* check"),
        ):
            mlflow.log_text("x", "x.txt")
    finally:
        procedure.session.use_role("ACCOUNTADMIN")
        procedure.session.sql(f'GRANT {stage} TO ROLE "MLFLOW_CALLER"').collect()


def test_a_model_is_loaded_inside_and_outside(procedure: Any, mlflow_server: MlflowServer) -> None:
    """A model that was logged in Snowflake is loaded there, and by any client from MLflow."""
    frame = DataFrame({"x": [1, 2]})
    with mlflow.start_run() as run:
        mlflow.log_metric("before", 1)
        made = mlflow.pyfunc.log_model(
            "model",
            python_model=Doubling(),
            pip_requirements=["mlflow"],
            registered_model_name=f"doubling-{procedure.setup.require_gateway()[0].provider}",
        )
    inside = mlflow.pyfunc.load_model(made.model_uri)
    assert inside.predict(frame)["x"].tolist() == [2, 4]

    mlflow.set_tracking_uri(mlflow_server.url)
    mlflow.set_registry_uri(mlflow_server.url)
    for uri in (made.model_uri, f"runs:/{run.info.run_id}/model"):
        assert mlflow.pyfunc.load_model(uri).predict(frame)["x"].tolist() == [2, 4]
    name = f"doubling-{procedure.setup.require_gateway()[0].provider}"
    assert mlflow.pyfunc.load_model(f"models:/{name}/1").predict(frame)["x"].tolist() == [2, 4]
    [version] = procedure.mlflow.search_model_versions(f"name = '{name}'")
    assert not version.source.startswith("snowflake")
    recorded = mlflow.models.get_model_info(made.model_uri)
    assert "snowflake:" not in str(recorded.artifact_path)
