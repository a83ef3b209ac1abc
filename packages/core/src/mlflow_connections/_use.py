"""Apply an endpoint to this process as a boundary, and restore exactly the previous state.

The boundary contains all state of MLflow and of a service's clients that depends on the server or
the identity: both URIs, the active experiment, run, workspace and model, MLflow's caches of stores,
clients and sessions, the exported environment, and a connection's bindings. Blocks form a list in
the order of entering; the last one is in force. Leaving another block removes it from the list, and
the block after it inherits the state to restore, so no URI outlives its block.

All of this is process-wide in MLflow. A second thread or asyncio task that enters a block for
another server while the first is in force would move the first one's runs, so it is refused.
"""

import os
import sys
from _thread import RLock  # importing `threading` would be a tenth of the cost of this module
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _mlflow
from ._endpoint import Endpoint
from ._errors import BoundaryError
from ._resolve import DEFAULT, resolve
from .mlflow_state import (
    ALWAYS_RESTORED,
    CREDENTIAL_VARIABLES,
    REGISTRY_VARIABLE,
    SERVER_VARIABLES,
    TRACKING_VARIABLE,
    SavedState,
    export_environment,
    set_uris,
    set_variable,
    tracking_uri,
    unset_variables,
)
from .secrets import get_logger, mask_uri
from .spark import remember_absence

if TYPE_CHECKING:
    import logging
    import threading

    from ._binder import Binder

__all__ = ["Applied", "use"]


class _Owner:
    """The thread and the asyncio task that enter a block."""

    def __init__(self) -> None:
        threading = sys.modules.get("threading")
        asyncio = sys.modules.get("asyncio")
        # None if no other thread was ever started: the main thread alone does not need `threading`.
        self._known_thread = threading.current_thread() if threading else None
        try:
            self.task = asyncio.current_task() if asyncio else None
        except RuntimeError:  # no event loop runs in this thread
            self.task = None

    @property
    def thread(self) -> "threading.Thread":
        """The thread."""
        import threading

        return self._known_thread or threading.main_thread()

    def may_run_beside(self, other: "_Owner") -> bool:
        """Return whether this owner, which entered a block, may log while the other one runs."""
        if self.thread is not other.thread:
            return self.thread.is_alive()
        # Code outside of any task waits until the event loop ends.
        return self.task is not None and self.task is not other.task and not self.task.done()

    def __str__(self) -> str:
        """Return the owner's name in messages."""
        if self.task is not None:
            return f"asyncio task '{self.task.get_name()}'"
        return f"thread '{self.thread.name}'"


class Applied:
    """An endpoint in force, until `restore` or the end of its `with` block.

    Args:
        endpoint: The endpoint to activate.

    Raises:
        BoundaryError: A run is active on another server, or another thread or task of this process
            uses another server. Nothing was changed then.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._owner = _Owner()
        remember_absence()
        with _lock:
            self._names = {*endpoint.environment, *_exported()}
            self._before = SavedState.take(self._names | _variables(endpoint))
            self._keeps_server = _is_in_force(endpoint, self._before)
            if not self._keeps_server:
                _refuse_active_runs(endpoint)
                _refuse_other_owners(endpoint, self._owner)
            self._runs = _active_ids()
            in_force = _binders_in_force()
            # An identity that is already in force is not bound twice: it would be unbound once.
            is_bound = self._keeps_server and list(endpoint.binders) == list(in_force)
            self._binders: Sequence[Binder] = () if is_bound else endpoint.binders
            suspended = () if self._keeps_server else in_force
            bound: list[Binder] = []
            try:
                if not self._keeps_server:
                    _leave_server(endpoint, suspended, self._before)
                export_environment(endpoint.environment)
                set_uris(endpoint.tracking_uri, endpoint.registry_uri)
                for binder in self._binders:
                    binder.bind()
                    bound.append(binder)
            except BaseException:
                _unbind(bound)
                self._before.restore(self._names)
                _forget(endpoint)
                _bind(suspended)
                raise
            _blocks.append(self)

    def restore(self) -> None:
        """Restore the state before this block; a second call does nothing.

        A run that was started inside and is still active in this thread is ended first, on its own
        server. While a block that was entered later is in force, that one stays in force, and its
        end restores the state before this one.
        """
        self._leave("FINISHED")

    def _leave(self, status: str) -> None:
        with _lock:
            if self not in _blocks:
                return
            place = _blocks.index(self)
            if place < len(_blocks) - 1:
                _blocks.pop(place)
                _blocks[place]._inherit(self)
                return
            try:
                kept = self._count_kept_runs()
                while len(_mlflow.active_runs()) > kept:
                    _end_run(status)
                if not self._keeps_server:
                    _flush()
            finally:
                _blocks.pop()
                _unbind(self._binders)
                self._before.restore(self._names)
                if not self._keeps_server:
                    _forget(self.endpoint)
                    _bind(_binders_in_force())

    def _count_kept_runs(self) -> int:
        """Return how many of this thread's active runs were active before the block."""
        runs = _active_ids()
        if runs and _Owner().thread is not self._owner.thread:
            return len(self._runs)  # the runs of the other thread cannot be compared
        return _in_common(self._runs, runs)

    def _inherit(self, left: "Applied") -> None:
        """Take over the state to restore from the block before this one, which is being left."""
        variables = dict(self._before.variables)
        for name in {*left._names, *ALWAYS_RESTORED}:
            variables.pop(name, None)
            if name in left._before.variables:
                variables[name] = left._before.variables[name]
        self._before = SavedState(left._before.mlflow, variables)
        self._names |= left._names
        self._runs = self._runs[: _in_common(self._runs, left._runs)]
        if self._keeps_server:
            # The binders of the block that is left also serve this one.
            self._binders = (*left._binders, *self._binders)
            self._keeps_server = left._keeps_server

    def __enter__(self) -> Endpoint:
        return self.endpoint

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave("FINISHED" if kind is None else "FAILED")

    def __repr__(self) -> str:
        return f"Applied({self.endpoint!r})"


_lock = RLock()
_blocks: list[Applied] = []


def use(
    tracking: "str | os.PathLike[str]" = DEFAULT,
    credentials: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    registry: "str | os.PathLike[str] | None" = None,
) -> Applied:
    """Resolve, and apply the result to MLflow in this process (and its children).

    A plain call stays in force. A `with` statement restores the previous state at its end: the
    URIs, the active experiment, the exported variables, and MLflow's caches. Inside, nothing of an
    enclosing block for another server is visible, and neither are variables of `SERVER_VARIABLES`
    and `CREDENTIAL_VARIABLES` that belong to the server that was in force.

    Args:
        tracking: The name of a connection in a connections file, a keyword of an installed
            connection, or a URI or path. By default `MLFLOW_CONNECTIONS_DEFAULT`.
        credentials: Passed to the connection.
        options: Passed to the connection.
        registry: A keyword, URI or path for the model registry. None leaves it unchanged.

    Returns:
        The block; a context manager that returns the endpoint.

    Raises:
        BoundaryError: A run is active on another server, or another thread or task of this process
            uses another server. Nothing was changed then.
        ConnectionsError: One of the errors of `resolve`. Nothing was changed then.
    """
    with _lock:
        with _exports_withdrawn():
            endpoint = resolve(tracking, credentials, options, registry=registry)
        return Applied(endpoint)


def environment_of_child(endpoint: Endpoint) -> dict[str, str]:
    """Return the environment for a child process that uses an endpoint.

    It is this process's environment without the variables of another server, and with the
    endpoint's variables and URIs.
    """
    with _lock:
        environment = dict(os.environ)
        now = SavedState(_mlflow.read_state(), environment)
        if not _is_in_force(endpoint, now):
            exported = _exported()
            environment = {k: v for k, v in environment.items() if k not in exported}
            environment |= {k: v for k, v in exported.items() if v is not None}
            if _is_server_named(now):
                for name in (*SERVER_VARIABLES, *CREDENTIAL_VARIABLES):
                    environment.pop(name, None)
    environment |= {**endpoint.environment, TRACKING_VARIABLE: endpoint.tracking_uri}
    if endpoint.registry_uri is not None:
        environment[REGISTRY_VARIABLE] = endpoint.registry_uri
    return environment


def _is_in_force(endpoint: Endpoint, now: SavedState) -> bool:
    """Return whether the server and identity of an endpoint, or of its wrapped one, are already in force."""
    if endpoint.inner is not None and _is_in_force(endpoint.inner, now):
        return True
    return (
        endpoint.tracking_uri.rstrip("/") == (now.tracking_uri or "").rstrip("/")
        and all(
            now.variables.get(name, "") == value for name, value in endpoint.environment.items()
        )
        and _are_in_force(endpoint.binders)
    )


def _variables(endpoint: Endpoint) -> set[str]:
    """Return the names of the variables of an endpoint and of the endpoints that it wraps."""
    inner = set() if endpoint.inner is None else _variables(endpoint.inner)
    return {*endpoint.environment, *inner}


def _are_in_force(binders: "Sequence[Binder]") -> bool:
    """Return whether identities are in force; outside of any block only the variables are known."""
    # A block inside another of the same identity has a different but equal binder.
    return not _blocks or all(binder in _binders_in_force() for binder in binders)


def _is_server_named(now: SavedState) -> bool:
    """Return whether code or environment names the server in force.

    If neither does, variables such as MLFLOW_EXPERIMENT_NAME come from a shell that leaves the
    server to the program, so they count for the first server that the program uses.
    """
    return now.tracking_uri is not None or now.mlflow.experiment_id is not None


def _leave_server(endpoint: Endpoint, binders: "Sequence[Binder]", before: SavedState) -> None:
    """Deactivate the state of the server in force, and set MLflow up for an endpoint."""
    _flush()
    _unbind(binders)
    registry, registry_variable = _registry_outside(before)
    registry = endpoint.registry_uri or registry
    for name, value in _exported().items():
        set_variable(name, value)
    if _is_server_named(before):
        unset_variables((*SERVER_VARIABLES, *CREDENTIAL_VARIABLES))
    _mlflow.write_state(
        _mlflow.State(
            tracking_uri=endpoint.tracking_uri,
            registry_uri=registry,
            tracing_disabled=before.mlflow.tracing_disabled,
        )
    )
    if registry or before.registry_uri:
        # MLflow's setter exports it, too.
        set_variable(REGISTRY_VARIABLE, registry_variable)
    _forget(endpoint)


def _forget(endpoint: Endpoint) -> None:
    """Drop MLflow's caches between the server in force and an endpoint.

    Stores are kept unless a connection has set an identity: MLflow caches them by URI.
    """
    _mlflow.forget_clients()
    endpoints = [endpoint, *(block.endpoint for block in _blocks)]
    if any(each.environment or each.binders for each in endpoints):
        _mlflow.forget_stores()


def _registry_outside(now: SavedState) -> tuple[str | None, str | None]:
    """Return the registry URI, of code and of the environment, that no block has set."""
    code, variable = now.mlflow.registry_uri, now.variables.get(REGISTRY_VARIABLE)
    for block in reversed(_blocks):
        if block.endpoint.registry_uri is not None and block.endpoint.registry_uri == (
            code or variable
        ):
            code = block._before.mlflow.registry_uri
            variable = block._before.variables.get(REGISTRY_VARIABLE)
    return code, variable


def _exported() -> dict[str, str | None]:
    """Return the variables that blocks have exported, with their values from before any block."""
    values: dict[str, str | None] = {}
    for block in _blocks:
        for name in block._names:
            values.setdefault(name, block._before.variables.get(name))
    return values


@contextmanager
def _exports_withdrawn() -> Iterator[None]:
    """Hide the variables that blocks have exported: a connection reads its variables from the environment."""
    exported = _exported()
    before = {name: os.environ.get(name) for name in exported}
    for name, value in exported.items():
        set_variable(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            set_variable(name, value)


def _binders_in_force() -> "Sequence[Binder]":
    """Return the binders of the last block, and of earlier ones with the same server."""
    found: list[Binder] = []
    for block in reversed(_blocks):
        found[:0] = block._binders
        if not block._keeps_server:
            break
    return found


def _bind(binders: "Sequence[Binder]") -> None:
    """Bind previously bound identities again; an error is logged, since the rest must be restored."""
    for binder in binders:
        if error := _error_of(binder.bind):
            _logger().warning("A connection could not put its identity in force again: %s", error)


def _unbind(binders: "Sequence[Binder]") -> None:
    for binder in reversed(binders):
        if error := _error_of(binder.unbind):
            _logger().warning("A connection could not take its identity out of force: %s", error)


def _flush() -> None:
    if error := _error_of(_mlflow.flush):
        _logger().warning("MLflow could not send everything that it had queued: %s", error)


def _refuse_active_runs(endpoint: Endpoint) -> None:
    if runs := _mlflow.active_runs():
        raise BoundaryError(
            f"The run {_id(runs[-1])} is active on {_shown(tracking_uri())}, and its values would go "
            f"to {_shown(endpoint.tracking_uri)}: end the run before another server is used."
        )
    elsewhere = _mlflow.runs_by_thread()
    if not elsewhere:
        return
    import threading

    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, runs in elsewhere.items():
        if ident in names:
            raise BoundaryError(
                f"The run {_id(runs[-1])} is active on {_shown(tracking_uri())} in the thread "
                f"'{names[ident]}', and MLflow has one server per process: end the run before "
                f"{_shown(endpoint.tracking_uri)} is used."
            )


def _refuse_other_owners(endpoint: Endpoint, owner: _Owner) -> None:
    for block in _blocks:
        if block._owner.may_run_beside(owner):
            raise BoundaryError(
                f"The {block._owner} uses {_shown(block.endpoint.tracking_uri)}, and MLflow has one "
                f"server per process: let it leave that server first, or use "
                f"{_shown(endpoint.tracking_uri)} in a process of its own."
            )


def _shown(uri: str | None) -> str:
    return mask_uri(uri) if uri else "MLflow's default server"


def _active_ids() -> list[str]:
    """Return the IDs of the active runs of this thread; the innermost is last."""
    return [_id(run) for run in _mlflow.active_runs()]


def _in_common(before: list[str], now: list[str]) -> int:
    """Return how many runs of two stacks are the same, from the outermost on."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(before, now, strict=False))
    return sum(1 for _ in pairs)


def _end_run(status: str) -> None:
    runs = _mlflow.active_runs()
    depth = len(runs)
    run_id = _id(runs[-1])
    _logger().warning(
        "The run %s was still active when its server was left, so it was ended.", run_id
    )
    if error := _error_of(lambda: _mlflow.end_run(status)):
        _logger().warning("MLflow could not end the run %s: %s", run_id, error)
    # MLflow takes the run off its stack before it calls the server; make sure of progress in any
    # case.
    del runs[depth - 1 :]


def _id(run: Any) -> str:
    return str(run.info.run_id)


def _error_of(call: Callable[[], object]) -> Exception | None:
    """Call a function and return the error that it raised, or None."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - clients may raise anything
        return error
    return None


def _logger() -> "logging.Logger":
    return get_logger(__name__)


def _renew_lock() -> None:
    """Replace the lock in a forked child: another thread of the parent may have held it."""
    global _lock  # noqa: PLW0603 - one lock per process
    _lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
