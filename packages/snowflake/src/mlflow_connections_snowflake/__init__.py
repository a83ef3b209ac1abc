"""MLflow from inside Snowflake, by external access or by external functions."""

from ._client import Client, Metric
from ._config import BridgeConfig, load, read
from ._errors import BridgeError, MissingFunctionError, MlflowRefusedError
from ._gateway import openapi
from ._provision import Finding, Way, apply, check, clean, ways
from ._session import open_session
from ._sql import drops, script, statements
from ._statement import Statement

__all__ = [
    "BridgeConfig",
    "BridgeError",
    "Client",
    "Finding",
    "Metric",
    "MissingFunctionError",
    "MlflowRefusedError",
    "Statement",
    "Way",
    "apply",
    "check",
    "clean",
    "drops",
    "load",
    "open_session",
    "openapi",
    "read",
    "script",
    "statements",
    "ways",
]
