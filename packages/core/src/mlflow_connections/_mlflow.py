"""The private names of MLflow that core uses; checked with MLflow 2.16, 2.22, 3.5, 3.15 and 3.17.

Nothing is imported: each function looks for the module in `sys.modules` and does nothing, or
returns the state of a fresh MLflow, while MLflow is not imported.
"""

import sys
from typing import Any, NamedTuple

_TRACKING = "mlflow.tracking._tracking_service.utils"
_REGISTRY = "mlflow.tracking._model_registry.utils"
_FLUENT = "mlflow.tracking.fluent"
_PROVIDER = "mlflow.tracing.provider"
_WORKSPACE = "mlflow.utils.workspace_context"

# Thread-local variables of MLflow that name a run or a model of the server in force.
_THREAD_LOCALS = ("_last_active_run_id", "_last_logged_model_id", "_ACTIVE_MODEL_CONTEXT")

# Caches of MLflow that are keyed only by URI: stores, which may hold an identity.
_STORE_CACHES = (
    ("mlflow.tracking._tracking_service.registry", "TrackingStoreRegistry"),
    ("mlflow.tracking._model_registry.registry", "ModelRegistryStoreRegistry"),
    ("mlflow.tracking._workspace.registry", "WorkspaceStoreRegistry"),
)
# Caches of MLflow that are keyed by less than URI and identity.
_CLIENT_CACHES = (
    # The client of databricks-sdk, by host, token and profile: two OAuth clients share a key.
    ("mlflow.utils.rest_utils", "get_workspace_client"),
    # Sessions of requests, which keep cookies.
    ("mlflow.utils.request_utils", "_cached_get_request_session"),
    # Clients of boto3, whose credentials came from the environment.
    ("mlflow.store.artifact.s3_artifact_repo", "_cached_get_s3_client"),
    # MLflow 3.5: prompts by name and version, without the registry.
    ("mlflow.tracking._model_registry.fluent", "_load_prompt_cached"),
)
# MLflow's names for the threads of its queues; a queue without a thread was never used.
_LOGGING_THREADS = ("MLflowAsyncLogging", "MLflowBatchLogging")
_TRACE_THREADS = ("MLflowTraceLogging", "MlflowTraceLogging", "MLflowSpanBatcher", "OtelBatchSpan")

_UNSET: Any = object()


class State(NamedTuple):
    """MLflow's own variables that determine where it logs; the defaults are those of a fresh MLflow.

    Attributes:
        tracking_uri: The tracking URI that code has set.
        registry_uri: The registry URI that code has set.
        experiment_id: The active experiment.
        workspace: The active workspace of a server (MLflow 3.10).
        trace_destination: The trace destination of the process.
        local_trace_destination: The trace destination of this thread or task.
        thread: The last run, the last logged model and the active model of this thread.
        tracing_disabled: Whether `mlflow.tracing.disable()` is in force.
    """

    tracking_uri: Any = None
    registry_uri: Any = None
    experiment_id: Any = None
    workspace: Any = None
    trace_destination: Any = None
    local_trace_destination: Any = None
    thread: tuple[Any, ...] = (_UNSET,) * len(_THREAD_LOCALS)
    tracing_disabled: bool = False


FRESH = State()


def tracking_uri() -> Any:
    """Return the tracking URI that code has set in MLflow, or None."""
    return _read(_TRACKING, "_tracking_uri")


def registry_uri() -> Any:
    """Return the registry URI that code has set in MLflow, or None."""
    return _read(_REGISTRY, "_registry_uri")


def experiment_id() -> Any:
    """Return the ID of the experiment that code has activated, or None."""
    return _read(_FLUENT, "_active_experiment_id")


def set_tracking_uri(uri: str | None) -> None:
    """Set the tracking URI in MLflow; its setter changes the environment variable as well."""
    if module := sys.modules.get(_TRACKING):
        module.set_tracking_uri(uri)


def set_registry_uri(uri: str | None) -> None:
    """Set the registry URI in MLflow; its setter may change the environment variable as well."""
    if module := sys.modules.get(_REGISTRY):
        module.set_registry_uri(uri)


def read_state() -> State:
    """Return MLflow's current variables, in this thread and this task."""
    if not _is_imported():
        return FRESH
    fluent = sys.modules.get(_FLUENT)
    everywhere, here = _trace_destinations()
    return State(
        tracking_uri(),
        registry_uri(),
        experiment_id(),
        workspace.get() if (workspace := _read(_WORKSPACE, "_WORKSPACE")) is not None else None,
        everywhere,
        here,
        tuple(_thread_value(getattr(fluent, name, None)) for name in _THREAD_LOCALS),
        _is_tracing_disabled(),
    )


def write_state(state: State) -> None:
    """Set MLflow's variables. The tracer is reset, because it keeps the URI of its creation."""
    if not _is_imported():
        return
    before = tracking_uri()
    set_tracking_uri(state.tracking_uri)
    set_registry_uri(state.registry_uri)
    _write_tracing(state, is_reset=tracking_uri() != before)
    fluent = sys.modules.get(_FLUENT)
    if fluent is not None:
        _write(_FLUENT, "_active_experiment_id", state.experiment_id)
        for name, value in zip(_THREAD_LOCALS, state.thread, strict=True):
            _set_thread_value(getattr(fluent, name, None), value)
    if (workspace := _read(_WORKSPACE, "_WORKSPACE")) is not None:
        workspace.set(state.workspace)


def active_runs() -> list[Any]:
    """Return the stack of active runs of this thread, itself and not a copy; the innermost is last."""
    stack = _read(_FLUENT, "_active_run_stack")
    if stack is None:
        return []
    # In MLflow 2.16 all threads share one list.
    runs: list[Any] = stack if isinstance(stack, list) else stack.get()
    return runs


def runs_by_thread() -> dict[int, list[Any]]:
    """Return the active runs of every thread that ever had one, by the thread's identifier."""
    stack = _read(_FLUENT, "_active_run_stack")
    found: dict[int, list[Any]] = (
        {} if stack is None or isinstance(stack, list) else stack.get_all_thread_values()
    )
    return {thread: runs for thread, runs in found.items() if runs}


def end_run(status: str) -> None:
    """End the innermost active run of this thread on its server."""
    sys.modules[_FLUENT].end_run(status)


def flush() -> None:
    """Send the data in MLflow's queues, so that it reaches the server where it was logged.

    A queue that was never used is skipped: accessing it would build a store.
    """
    threading = sys.modules.get("threading")
    fluent = sys.modules.get(_FLUENT)
    if threading is None or fluent is None:
        return
    names = [thread.name for thread in threading.enumerate()]
    if any(name.startswith(_LOGGING_THREADS) for name in names):
        fluent.flush_async_logging()
    if any(name.startswith(_TRACE_THREADS) for name in names):
        fluent.flush_trace_async_logging()


def forget_clients() -> None:
    """Drop MLflow's clients, sessions and artifact repositories, and data that it caches only by name."""
    if not _is_imported():
        return
    for module, name in _CLIENT_CACHES:
        _clear(_read(module, name))
    repositories = _read(_TRACKING, "_artifact_repos_cache")
    if repositories is not None:
        repositories.clear()
    prompts = _read("mlflow.prompt.registry_utils", "PromptCache")
    if prompts is not None:
        prompts._reset_instance()


def forget_stores() -> None:
    """Drop MLflow's stores. One with a database costs 0.1 s to build again."""
    for module, registry in _STORE_CACHES:
        _clear(getattr(_read(module, registry), "_get_store_with_resolved_uri", None))


def _is_imported() -> bool:
    return "mlflow" in sys.modules


def _clear(function: Any) -> None:
    clear = getattr(function, "cache_clear", None)
    if clear is not None:
        clear()


def _read(module: str, name: str) -> Any:
    """Return a variable of a module, or None if the module is not imported or lacks it."""
    return getattr(sys.modules.get(module), name, None)


def _write(module: str, name: str, value: Any) -> None:
    setattr(sys.modules[module], name, value)


def _thread_value(variable: Any) -> Any:
    # Not with its `get`, which would create a default from the current environment.
    return getattr(getattr(variable, "thread_local", None), "value", _UNSET)


def _set_thread_value(variable: Any, value: Any) -> None:
    local = getattr(variable, "thread_local", None)
    if local is None:
        return
    if value is not _UNSET:
        local.value = value
    elif hasattr(local, "value"):
        del local.value


def _trace_destinations() -> tuple[Any, Any]:
    destination = _read(_PROVIDER, "_MLFLOW_TRACE_USER_DESTINATION")
    local = getattr(destination, "_context_local_value", None)
    if local is None:  # MLflow 2: the module's variable is the destination itself
        return destination, None
    return destination._global_value, local.get()


def _is_tracing_disabled() -> bool:
    provider = sys.modules.get(_PROVIDER)
    if provider is None or not _is_tracer_made():
        return False
    return not provider.is_tracing_enabled()


def _is_tracer_made() -> bool:
    once = _read(_PROVIDER, "_MLFLOW_TRACER_PROVIDER_INITIALIZED")  # MLflow 2.22 to 3.5
    if once is None:
        once = getattr(_read(_PROVIDER, "provider"), "once", None)
    # Not by the property `done` of MLflow's own class, which takes a lock that another thread may hold for long.
    return bool(getattr(once, "_Once__done", False) or getattr(once, "_done", False))


def _write_tracing(state: State, *, is_reset: bool) -> None:
    provider = sys.modules.get(_PROVIDER)
    if provider is None:
        return
    if not is_reset and _is_tracer_made():
        # MLflow resets it for another URI only. Even if the URI is equal, its identity may differ.
        provider.reset()
    if state.tracing_disabled:
        provider.disable()
    destination = _read(_PROVIDER, "_MLFLOW_TRACE_USER_DESTINATION")
    if getattr(destination, "_context_local_value", None) is None:
        _write(_PROVIDER, "_MLFLOW_TRACE_USER_DESTINATION", state.trace_destination)
        return
    destination.set(state.trace_destination)
    destination.set(state.local_trace_destination, context_local=True)
