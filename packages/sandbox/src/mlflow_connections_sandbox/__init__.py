"""Local stand-ins of Databricks, AzureML, Databand and Snowflake in front of a real MLflow server."""

from typing import TYPE_CHECKING

from mlflow_connections.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "STAND_INS": "._sandbox",
        "Fault": "._recorder",
        "Faults": "._recorder",
        "Journal": "._journal",
        "MlflowBackend": "._mlflow_backend",
        "MlflowServer": "._mlflow_server",
        "OpenMlflow": "._open",
        "Received": "._journal",
        "Sandbox": "._sandbox",
        "StandIn": "._stand_in",
    },
)
