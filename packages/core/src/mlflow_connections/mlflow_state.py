"""Read, set and restore MLflow's destination in this process, without importing MLflow.

MLflow keeps its URIs and its active experiment twice: in a module's variable, and in an environment
variable for child processes. While MLflow is not imported, only the environment variables exist.
"""

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from . import _mlflow
from .secrets import get_logger

__all__ = [
    "ALWAYS_RESTORED",
    "CREDENTIAL_VARIABLES",
    "REGISTRY_VARIABLE",
    "SERVER_VARIABLES",
    "TRACKING_VARIABLE",
    "SavedState",
    "active_run_id",
    "export_environment",
    "registry_uri",
    "set_uris",
    "tracking_uri",
]

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
"""The variable of the tracking URI."""

REGISTRY_VARIABLE = "MLFLOW_REGISTRY_URI"
"""The variable of the registry URI."""

SERVER_VARIABLES = (
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_ID",
    "MLFLOW_WORKSPACE",
    "MLFLOW_TRACING_DESTINATION",
    "MLFLOW_ACTIVE_MODEL_ID",
    "_MLFLOW_ACTIVE_MODEL_ID",
)
"""Variables that name an object on one server: an experiment, a run, a workspace or a model."""

CREDENTIAL_VARIABLES = (
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
)
"""Variables from which MLflow reads an identity, and sends it to any server."""

ALWAYS_RESTORED = (
    TRACKING_VARIABLE,
    REGISTRY_VARIABLE,
    *SERVER_VARIABLES,
    *CREDENTIAL_VARIABLES,
)
"""The variables that `SavedState.restore` always restores."""
_ALWAYS_RESTORED = frozenset(ALWAYS_RESTORED)


def tracking_uri() -> str | None:
    """Return the tracking URI that is set by code or environment, or None if it is left to MLflow."""
    return _mlflow.tracking_uri() or os.environ.get(TRACKING_VARIABLE) or None


def registry_uri() -> str | None:
    """Return the registry URI that is set by code or environment, or None if it is left to MLflow."""
    return _mlflow.registry_uri() or os.environ.get(REGISTRY_VARIABLE) or None


def active_run_id() -> str | None:
    """Return the ID of the innermost active run of this thread, or None if there is none."""
    runs = _mlflow.active_runs()
    return str(runs[-1].info.run_id) if runs else None


def set_uris(tracking: str | None, registry: str | None) -> None:
    """Set MLflow's URIs in this process and for its children; None leaves one unchanged."""
    if tracking is not None:
        _mlflow.set_tracking_uri(tracking)
        os.environ[TRACKING_VARIABLE] = tracking
    if registry is not None:
        _mlflow.set_registry_uri(registry)
        os.environ[REGISTRY_VARIABLE] = registry


def export_environment(environment: Mapping[str, str]) -> None:
    """Set environment variables, and log a warning for each replaced value that differs."""
    for name, value in environment.items():
        if os.environ.get(name, value).strip() != value.strip():
            get_logger(__name__).warning(
                "The environment variable %s had another value, which the credentials of this "
                "connection replace.",
                name,
            )
        os.environ[name] = value


class SavedState(NamedTuple):
    """A snapshot of MLflow's destination and of the environment of this process.

    Attributes:
        mlflow: MLflow's own variables: its URIs, active experiment, workspace and model.
        variables: The environment, or those of its variables that may be restored.
    """

    mlflow: _mlflow.State
    variables: Mapping[str, str]

    @classmethod
    def take(cls, names: Iterable[str] | None = None) -> "SavedState":
        """Save the current state.

        Args:
            names: The variables to save in addition to `ALWAYS_RESTORED`. None saves the whole
                environment, which takes longer than everything else in a block.
        """
        if names is None:
            return cls(_mlflow.read_state(), dict(os.environ))
        saved = _set_now(_ALWAYS_RESTORED.union(names))
        return cls(_mlflow.read_state(), {name: os.environ[name] for name in saved})

    @property
    def tracking_uri(self) -> str | None:
        """The tracking URI that code or the environment had set, or None if neither had."""
        return self.mlflow.tracking_uri or self.variables.get(TRACKING_VARIABLE) or None

    @property
    def registry_uri(self) -> str | None:
        """The registry URI that code or the environment had set, or None if neither had."""
        return self.mlflow.registry_uri or self.variables.get(REGISTRY_VARIABLE) or None

    def restore(self, names: Iterable[str] = (), after: "SavedState | None" = None) -> None:
        """Restore MLflow's own state, its environment variables, and the named ones.

        Args:
            names: More environment variables to restore; those that were not set are unset.
            after: Values that differ from this later state are left alone: other code has set them.
        """
        wanted: _mlflow.State = self.mlflow
        variables: dict[str, str | None] = dict(self.variables)
        if after is not None:
            now = SavedState.take()
            kept = {
                name: getattr(now.mlflow, name)
                for name in wanted._fields
                if getattr(now.mlflow, name) != getattr(after.mlflow, name)
            }
            wanted = wanted._replace(**kept)
            for name, _ in {*now.variables.items()} ^ {*after.variables.items()}:
                variables[name] = now.variables.get(name)
        _mlflow.write_state(wanted)
        # Last: MLflow's own setters change the variables too, including those that are left alone.
        restored = _ALWAYS_RESTORED.union(names)
        for name in _set_now(restored):
            if variables.get(name) is None:
                os.environ.pop(name, None)
        for name, value in variables.items():
            if value is not None and name in restored:
                os.environ[name] = value

    def __repr__(self) -> str:
        """Hide everything: an environment is full of secrets."""
        return f"SavedState({len(self.variables)} variables)"


def set_variable(name: str, value: str | None) -> None:
    """Set an environment variable; None unsets it."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def unset_variables(names: Iterable[str]) -> None:
    """Unset environment variables, those of them that are set."""
    for name in _set_now(frozenset(names)):
        os.environ.pop(name, None)


def _set_now(names: frozenset[str]) -> Iterable[str]:
    """Return the names of the environment variables that are set.

    One pass over the environment costs less: asking for one variable that is not set takes as long as
    reading the names of five that are.
    """
    if os.name == "nt":  # where the names of variables have no case
        return [name for name in names if name in os.environ]
    return names.intersection(os.environ)
