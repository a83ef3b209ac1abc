"""The description of a server, with which two servers are compared."""

from pathlib import Path

from mlflow import MlflowClient

from mlflow_connections_events.testing import describe


def test_entities_are_found_by_label_and_ids_become_labels(tmp_path: Path) -> None:
    """A second run of one name has a number, and a tag with a run's ID contains its label."""
    uri = f"sqlite:///{tmp_path / 'source.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("wine", artifact_location=tmp_path.as_uri())
    parent = client.create_run(experiment, start_time=1, run_name="fit")
    tags = {"mlflow.parentRunId": parent.info.run_id}
    child = client.create_run(experiment, start_time=2, run_name="fit", tags=tags)
    client.log_metric(child.info.run_id, "loss", 0.5, timestamp=3, step=1)
    client.set_terminated(child.info.run_id, "FINISHED", 4)
    runs = describe(uri, experiments=["wine"])["runs"]
    assert sorted(runs) == ["wine/fit", "wine/fit#2"]
    assert runs["wine/fit#2"]["tags"]["mlflow.parentRunId"] == "<run wine/fit>"
    assert runs["wine/fit#2"]["metrics"] == {"loss": [(1, 3, "0.5", None, None, None)]}
    assert (runs["wine/fit#2"]["status"], runs["wine/fit#2"]["end"]) == ("FINISHED", 4)
    renamed = describe(uri, experiments={"wine": "grapes"})
    assert sorted(renamed["runs"]) == ["grapes/fit", "grapes/fit#2"]
    assert renamed["runs"]["grapes/fit#2"]["tags"]["mlflow.parentRunId"] == "<run grapes/fit>"
    empty = describe(uri, experiments=["beer"])
    assert not any(empty.values())
