"""Local stand-ins of Databricks, AzureML, Databand and Snowflake in front of a real MLflow server."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._journal import Journal, Received
    from ._mlflow_backend import MlflowBackend
    from ._mlflow_server import MlflowServer
    from ._open import OpenMlflow
    from ._recorder import Fault, Faults
    from ._sandbox import STAND_INS, Sandbox
    from ._stand_in import StandIn

__all__ = [
    "STAND_INS",
    "Fault",
    "Faults",
    "Journal",
    "MlflowBackend",
    "MlflowServer",
    "OpenMlflow",
    "Received",
    "Sandbox",
    "StandIn",
]

_HOMES = {
    "STAND_INS": "_sandbox",
    "Fault": "_recorder",
    "Faults": "_recorder",
    "Journal": "_journal",
    "MlflowBackend": "_mlflow_backend",
    "MlflowServer": "_mlflow_server",
    "OpenMlflow": "_open",
    "Received": "_journal",
    "Sandbox": "_sandbox",
    "StandIn": "_stand_in",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is used: every run of pytest imports this package for its plugin."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
