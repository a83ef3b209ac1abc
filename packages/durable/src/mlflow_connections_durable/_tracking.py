"""The tracking store: writes become events, own runs are read from memory, the rest goes to the server.

Each concept has a module with a class, whose public methods replace MLflow's methods of the same
names.
"""

from collections.abc import Callable
from typing import Any

from mlflow.store.tracking.rest_store import RestStore

from mlflow_connections_events import proxy

from . import _mlflow
from ._artifacts import wrap_artifacts
from ._experiments import DurableExperiments
from ._inner_store import InnerStore
from ._logged_models import DurableModels
from ._methods import replaced_methods, while_enabled
from ._run_data import DurableRunData
from ._runs import DurableRuns
from ._server import DurableServer
from ._traces import DurableTraces


def durable_tracking(
    server: DurableServer, inner: Any | None, enabled: Callable[[], bool] | None = None
) -> Any:
    """Return the tracking store of a server.

    Args:
        server: The state of the server in this process.
        inner: The server's own store; None for `offline`.
        enabled: Returns whether the store is still in force; None if it always is.
    """
    store = inner if inner is not None else _mlflow.store_without_server()
    methods = _methods(server, InnerStore(server, inner), store)
    if enabled is not None:
        methods = while_enabled(enabled, methods, store)
    wrap_artifacts()
    return proxy(store, methods, None if inner is None else _mlflow.base_of(store))


def _methods(server: DurableServer, inner: InnerStore, store: Any) -> dict[str, Callable[..., Any]]:
    """Return the replaced methods of a store, by name."""
    experiments = DurableExperiments(server, inner)
    runs = DurableRuns(server, inner, experiments)
    data = DurableRunData(server, inner, runs)
    models = DurableModels(server, inner, experiments)
    traces = DurableTraces(server, experiments.name_of)
    # Without a server, MLflow's abstract store replaces its REST store, which has more methods.
    also = RestStore if inner.store is None else object
    found = replaced_methods([experiments, runs, data, models], store, inner.forwarded, also)
    if hasattr(store, "get_host_creds"):
        found["get_host_creds"] = inner.host_credentials
    return {**found, **traces.methods(type(store), found)}
