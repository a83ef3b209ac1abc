"""Unsupported calls are refused by name; none returns None as if it had succeeded."""

import inspect

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.abstract_store import AbstractStore as AbstractRegistry
from mlflow.store.tracking.abstract_store import AbstractStore

from mlflow_connections_snowflake.store import registry_store, tracking_store

WORKING = {"search_runs", "log_metric_async", "log_param_async", "set_tag_async"}


@pytest.mark.parametrize(
    ("made", "base"), [(tracking_store, AbstractStore), (registry_store, AbstractRegistry)]
)
def test_every_method_is_implemented_or_refused(made: object, base: type) -> None:
    """For every method of this MLflow's abstract store, the store has its own implementation."""
    assert callable(made)
    store = made("snowflake://")
    inherited = [
        name
        for name, method in inspect.getmembers(type(store), inspect.isfunction)
        if not name.startswith("_") and vars(base).get(name) is method
    ]
    assert set(inherited) <= WORKING


def test_a_refusal_names_the_method_and_the_remedy() -> None:
    """The error names the method, the reason and the alternative."""
    with pytest.raises(MlflowException, match=r"restore_run.*external_access") as caught:
        tracking_store("snowflake://").restore_run("r")
    assert caught.value.error_code == "NOT_IMPLEMENTED"
