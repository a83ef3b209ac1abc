"""An account that has only the specification's five functions, with their required arguments."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlflow_connections_snowflake import BridgeConfig, apply, check, load, statements, store, ways
from mlflow_connections_snowflake._functions import FUNCTIONS

SPECIFIED = [function for function in FUNCTIONS if function.specified]


@pytest.fixture(scope="module")
def five(bridge: Any, tmp_path_factory: pytest.TempPathFactory) -> BridgeConfig:
    """The five, in a separate schema, and the specification's block that names them."""
    section: dict[str, Any] = {
        "experiment_name": "five",
        "stage": "@MLFLOW_STAGE",
        "functions": {f.key: f"demo.five.mlflow_{f.key}" for f in SPECIFIED},
    }
    whole = yaml.safe_load(bridge.config.read_text())["snowflake"]["mlflow"]
    path = tmp_path_factory.mktemp("five") / "snowflake.yml"
    path.write_text(yaml.safe_dump({"mlflow": {**whole, **section}}))
    wanted = {
        ("EXTERNAL FUNCTION", load(path).functions[f.key].object, tuple(kind for _, kind in short))
        for f in SPECIFIED
        for short in f.signatures[:1]
    }
    written = [
        one
        for one in statements(load(path))
        if one.target is None
        or one.target.kind != "EXTERNAL FUNCTION"
        or (one.target.kind, one.target.name.object, one.target.types) in wanted
    ]
    apply(bridge.session, written)
    bridge.session.use_role("ACCOUNTADMIN")
    bridge.mlflow.create_experiment("five")
    path.write_text(yaml.safe_dump({"mlflow": section}))
    return load(path)


def test_plain_tracking_needs_no_other_function(bridge: Any, five: BridgeConfig) -> None:
    """Unmodified MLflow code logs a run, including NaN, and leaves no run active."""
    import mlflow

    mlflow.set_tracking_uri(store.Bridge.of(five).uri())
    mlflow.set_experiment("five")
    with mlflow.start_run() as run:
        mlflow.log_params({"rows": 3, "note": "it's"})
        mlflow.log_metrics({"loss": 0.5, "nothing": math.nan})
        mlflow.log_metric("loss", 0.25)
    with pytest.raises(ValueError, match="mine"), mlflow.start_run():
        raise ValueError("mine")
    experiment = bridge.mlflow.get_experiment_by_name("five")
    runs = {one.info.run_id: one for one in bridge.mlflow.search_runs([experiment.experiment_id])}
    assert sorted(one.info.status for one in runs.values()) == ["FAILED", "FINISHED"]
    read = runs[run.info.run_id]
    assert read.data.params == {"rows": "3", "note": "it's"}
    assert math.isnan(read.data.metrics["nothing"])
    values = [one.value for one in bridge.mlflow.get_metric_history(run.info.run_id, "loss")]
    assert sorted(values) == [0.25, 0.5]


def test_calls_that_need_other_functions_are_named(bridge: Any, five: BridgeConfig) -> None:
    """A call that needs another function names it, and the statement that creates it."""
    import mlflow

    mlflow.set_tracking_uri(store.Bridge.of(five).uri())
    with pytest.raises(Exception, match=r"DEMO\.FIVE\.MLFLOW_CALL.*mlflow-snowflake apply"):
        mlflow.set_experiment("unknown")


def test_a_check_of_the_block_alone(bridge: Any, five: BridgeConfig, tmp_path: Path) -> None:
    """The check needs no gateway: the five exist, MLflow responds, and the rest is named."""
    findings = list(check(bridge.session, five))
    assert [one for one in findings if not one.ok] == []
    assert any("MLflow responds through DEMO.FIVE." in one.what for one in findings)
    assert any("MLFLOW_RUN_SEARCH is not there" in one.what for one in findings)
    shown = {way.name: way for way in ways(bridge.session, five)}
    assert shown["external functions"].ready
    assert (
        "the five required ones; without call, run_log_batch" in shown["external functions"].detail
    )
    path = tmp_path / "snowflake.yml"
    section = {
        "experiment_name": "five",
        "functions": {f.key: f"demo.none.{f.key}" for f in SPECIFIED},
    }
    path.write_text(yaml.safe_dump({"mlflow": section}))
    wrong = [one for one in check(bridge.session, load(path)) if not one.ok]
    assert len(wrong) == len(SPECIFIED) + 1
    assert "mlflow-snowflake check" not in "".join(one.fix for one in wrong)
