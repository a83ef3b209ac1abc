"""MLflow from inside Snowflake, through external functions that one command sets up."""

from ._client import Client, Metric
from ._config import BridgeConfig, load, read
from ._errors import BridgeError, MlflowRefusedError
from ._gateway import openapi
from ._provision import Finding, apply, check
from ._session import open_session
from ._sql import drops, script, statements
from ._statement import Statement

__all__ = [
    "BridgeConfig",
    "BridgeError",
    "Client",
    "Finding",
    "Metric",
    "MlflowRefusedError",
    "Statement",
    "apply",
    "check",
    "drops",
    "load",
    "open_session",
    "openapi",
    "read",
    "script",
    "statements",
]
