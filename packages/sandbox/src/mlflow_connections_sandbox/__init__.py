"""Local stand-ins of Databricks, AzureML, Databand and Snowflake before a real MLflow server."""

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
