"""Pipelines become tasks in the right order, and an impossible pipeline is reported."""

from collections.abc import Callable

import pytest
from kedro.pipeline import Pipeline, node, pipeline

from mlflow_connections import ConnectionsError
from mlflow_connections_snowflake.kedro._plan import Plan, Settings, plan


def test_a_task_comes_after_those_that_produce_its_inputs(planned: Callable[..., Plan]) -> None:
    """The first nodes come after MLflow's task, the others after the nodes that they need."""
    made = planned()
    after = {step.node: [name.object for name in step.after] for step in made.steps}
    assert after == {
        "load": ["WINE__DEFAULT__MLFLOW"],
        "left": ["WINE__DEFAULT__LOAD"],
        "right": ["WINE__DEFAULT__LOAD"],
        "join": ["WINE__DEFAULT__LEFT", "WINE__DEFAULT__RIGHT"],
    }
    assert list(made.tasks.values())[:3] == ["start", "MLflow run", "load"]
    assert list(made.tasks.values())[-1] == "end"


def test_without_mlflow_the_root_comes_first(planned: Callable[..., Plan]) -> None:
    """The same graph without MLflow has one task less."""
    made = planned(mlflow=None)
    assert [name.object for name in made.steps[0].after] == ["WINE__DEFAULT"]
    assert "MLflow run" not in made.tasks.values()
    assert len(made.tasks) == len(planned().tasks) - 1


def wide(count: int) -> Pipeline:
    """Return a pipeline of independent nodes."""
    return pipeline([node(lambda a: a, "raw", f"o{i}", name=f"n{i}") for i in range(count)])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("trainin", "no pipeline named 'trainin'. Did you mean 'training'?"),
        ("empty", "has no nodes"),
        ("wide", "This pipeline needs 104, 1 and 101"),
    ],
)
def test_an_impossible_pipeline_is_reported(
    settings: Callable[..., Settings], name: str, sentence: str
) -> None:
    """An unknown or empty pipeline, and a graph too wide for Snowflake, is one sentence."""
    pipelines = {"training": wide(1), "empty": pipeline([]), "wide": wide(101)}
    with pytest.raises(ConnectionsError) as caught:
        plan(settings(), "wine", name, "local", {}, pipelines)
    assert sentence in str(caught.value)


def test_a_pipeline_may_have_another_name_in_snowflake(settings: Callable[..., Settings]) -> None:
    """pipeline_name_mapping names the tasks, as it did in kedro-snowflake."""
    made = plan(
        settings(pipeline_name_mapping={"training": "nightly"}),
        *("wine", "training", "local", {}, {"training": wide(1)}),
    )
    assert made.root.object == "WINE__NIGHTLY"
    assert made.pipeline == "training"
