"""A small project's settings and pipelines."""

from collections.abc import Callable
from typing import Any

import pytest
from kedro.pipeline import Pipeline, node, pipeline

from mlflow_connections_snowflake.kedro._plan import Plan, Settings, plan, read_settings

FUNCTIONS = (
    *("experiment_get_by_name", "run_create", "run_update", "run_log_metric"),
    "run_log_parameter",
)
MLFLOW: dict[str, Any] = {
    "experiment_name": "demo-mlops",
    "functions": {key: f"demo.demo.mlflow_{key}" for key in FUNCTIONS},
}
PLACE: dict[str, Any] = {"database": "demo", "schema": "pipes", "warehouse": "small"}


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """Read a section with MLflow, and with other keys."""

    def read(**more: Any) -> Settings:
        given = {**PLACE, "mlflow": MLFLOW, **more}
        return read_settings({k: v for k, v in given.items() if v is not None}, "snowflake.yml")

    return read


def diamond(*names: str) -> Pipeline:
    """Return a pipeline of four nodes: one, two after it, and one after both."""
    first, left, right, last = names
    return pipeline(
        [
            node(lambda a: a, "raw", "a", name=first),
            node(lambda a: a, "a", "b", name=left),
            node(lambda a: a, "a", "c", name=right),
            node(lambda b, c: None, ["b", "c"], None, name=last),
        ]
    )


@pytest.fixture
def planned(settings: Callable[..., Settings]) -> Callable[..., Plan]:
    """Plans the pipeline of four nodes."""

    def make(names: tuple[str, ...] = ("load", "left", "right", "join"), **more: Any) -> Plan:
        pipelines = {"__default__": diamond(*names)}
        return plan(settings(**more), "wine", "__default__", "local", {}, pipelines)

    return make
